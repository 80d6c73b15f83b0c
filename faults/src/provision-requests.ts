import type { Step } from '@m2/saga';
import { sagas } from '../../services/api-gateway/src/sagas/index.js';
import { once } from './events.js';

/** The product's own steps. The kills are made from them; what a step tells and leaves is said below, by whoever adds it. */
export const provisionSteps = sagas.provision.steps as Step<unknown>[];
export const deprovisionSteps = sagas.deprovision.steps as Step<unknown>[];

/** Requests, with the part of the saga's input that its conditions read. */
const provisionRequests = [
  { waitFor: 'ready' as const, input: { image: 'golden', waitFor: 'ready' } },
  { waitFor: 'booted' as const, input: { image: 'golden', waitFor: 'booted' } },
];
const deprovisionRequests = [
  { disk: 'keep' as const, input: { deleteDisk: false } },
  { disk: 'delete' as const, input: { deleteDisk: true } },
];

/** The request that makes a saga take a step. A conditional step that no request here reaches fails loudly. */
function requestFor<Variant extends { input: object }>(step: Step<unknown>, variants: Variant[]): Variant {
  const variant = variants.find(({ input }) => step.when?.(input) ?? true);
  if (!variant) throw new Error(`No request here takes the step ${step.name}; add one`);
  return variant;
}

export const provisionRequestFor = (step: Step<unknown>) => requestFor(step, provisionRequests);
export const deprovisionRequestFor = (step: Step<unknown>) => requestFor(step, deprovisionRequests);

/** The events of a provision and of its end, each once. */
export const made = once(
  'image.disk.created',
  'image.disk.attached',
  'iscsi.export.created',
  'hil.node.reserved',
  'hil.network.attached',
  'hil.power.on',
);
export const takenBack = once(
  'image.disk.detached',
  'iscsi.export.deleted',
  'hil.node.released',
  'hil.network.detached',
  'hil.power.off',
);
export const booted = once('boot.config.served', 'boot.node.booted');
export const removed = once('image.disk.deleted');
