import type { Operation } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { happened, toldAndWritten } from './events.js';
import {
  askDeprovision,
  askProvision,
  bootNode,
  ended,
  powerCommands,
  purgeDisk,
  type Scene,
  startScene,
  succeeded,
  untilState,
  untilStep,
} from './scene.js';
import { gatewayCases } from './kill-cases.js';
import { expectCarriedOut, expectRefused, requests, requestsEnvironment } from './requests.js';
import { expectNothing, expectOnly } from './things.js';
import { booted, made, provisionSteps, removed, takenBack, wayToDeprovision, wayToProvision } from './ways.js';

let scene: Scene;

beforeAll(async () => {
  scene = await startScene({ nodes: 1, mortal: ['gateway'], env: { image: requestsEnvironment } });
});
afterAll(() => scene?.close());

type Arm = () => void;

/** Kills the gateway at a phase of a step. */
const atStep =
  (kind: string, step: string, direction: 'do' | 'undo', phase: string): Arm =>
  () =>
    scene.killSwitch('gateway').arm({ channel: 'm2:operation:step', at: { kind, step, direction, phase } });
/** Kills the gateway when a change of a whole operation is on record, before anybody is told. */
const atCommit =
  (kind: string, phase: string): Arm =>
  () =>
    scene.killSwitch('gateway').arm({ channel: 'm2:operation', at: { kind, phase } });

const thingsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];
const struck = () => scene.killSwitch('gateway').struck;

async function provisionDespite(arm: Arm, waitFor: 'ready' | 'booted'): Promise<void> {
  let operation: Operation | undefined;
  const power = await powerCommands(scene, async () => {
    arm();
    operation = await askProvision(scene, { waitFor });
    if (waitFor === 'booted') await bootNode(scene);
    operation = await succeeded(scene, operation);
  });
  expect(power).toEqual(['power 1']);
  await expectOnly(scene, [operation!], waitFor);
  expect(await happened(scene, thingsOf(operation!))).toEqual({ ...made, ...(waitFor === 'booted' && booted) });
  await succeeded(scene, await askDeprovision(scene, operation!.about['provision']!));
  await expectNothing(scene);
}

async function deprovisionDespite(arm: Arm, disk: 'keep' | 'delete'): Promise<void> {
  const provision = await succeeded(scene, await askProvision(scene));
  arm();
  await succeeded(scene, await askDeprovision(scene, provision.about['provision']!, disk));
  expect(await happened(scene, thingsOf(provision))).toEqual({
    ...made,
    ...takenBack,
    ...(disk === 'delete' && removed),
  });
  if (disk === 'delete') return expectNothing(scene);
  await expectNothing(scene, [provision.about['disk']!]);
  await succeeded(scene, await purgeDisk(scene, provision.about['disk']!));
}

const last = provisionSteps.at(-1)!;

async function cancelDespite(arm: Arm): Promise<void> {
  arm();
  const operation = await askProvision(scene, { waitFor: wayToProvision(last).waitFor });
  await untilStep(scene, operation, last.name, 'running');
  await scene.client.call('operationCancel', { params: { id: operation.id } });
  expect(await ended(scene, operation)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
  await expectNothing(scene);
  expect(await happened(scene, thingsOf(operation))).toEqual({ ...made, ...takenBack, ...removed });
}

/** Its last command is refused, and all is undone. */
async function failDespite(arm: Arm): Promise<void> {
  const { bmc } = scene.stage.lab.nodes[0]!;
  const setPassword = (password: string) =>
    scene.client.call('nodeSetBmc', {
      params: { node: 'node-1' },
      body: { address: bmc.address, port: bmc.port, user: bmc.user, password, cipherSuites: [3] },
    });
  await setPassword('wrong');
  let operation: Operation;
  try {
    arm();
    operation = await askProvision(scene);
    await untilState(scene, operation, 'undoing', 'failed');
  } finally {
    // Who does not know whether the node was powered on has to ask its BMC, so the way back needs the right password.
    await setPassword(bmc.password);
  }
  expect(await ended(scene, operation)).toMatchObject({ state: 'failed', error: { code: 'bmc.auth_failed' } });
  await expectNothing(scene);
}

describe('the gateway is killed while it provisions', () => {
  it.each(gatewayCases.provision)('$name, $phase', async ({ step, phase }) => {
    await provisionDespite(atStep('provision', step.name, 'do', phase), wayToProvision(step).waitFor);
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it deprovisions', () => {
  it.each(gatewayCases.deprovision)('$name, $phase', async ({ step, phase }) => {
    await deprovisionDespite(atStep('deprovision', step.name, 'do', phase), wayToDeprovision(step).disk);
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it undoes a provision', () => {
  it.each(gatewayCases.undo)('$name, $phase', async ({ name, phase }) => {
    await cancelDespite(atStep('provision', name, 'undo', phase));
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it works on images and disks', () => {
  it.each(gatewayCases.requests)('$kind, $name, $phase', async ({ kind, request, step, phase }) => {
    await expectCarriedOut(scene, request, atStep(kind, step.name, 'do', phase));
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it works on what is undone', () => {
  it.each(gatewayCases.refusals)('$kind, $name, $direction, $phase', async ({ phase, ...refused }) => {
    await expectRefused(scene, refused, atStep(refused.kind, refused.step.name, refused.direction, phase));
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed around a step that fails', () => {
  it.each(gatewayCases.failure)('%s', async (phase) => {
    await failDespite(atStep('provision', 'power-on', 'do', phase));
    expect(struck()).toBe(true);
  });
});

const [create] = requests['disk.create'];
const despite: Record<(typeof gatewayCases.commits)[number]['of'], (phase: string) => Promise<void>> = {
  'a provision': (phase) => provisionDespite(atCommit('provision', phase), 'ready'),
  'a deprovision': (phase) => deprovisionDespite(atCommit('deprovision', phase), 'delete'),
  'an operation without a `settle`': (phase) => expectCarriedOut(scene, create!, atCommit('disk.create', phase)),
  'a provision that is cancelled': (phase) => cancelDespite(atCommit('provision', phase)),
  'a provision that fails': (phase) => failDespite(atCommit('provision', phase)),
};

describe('the gateway is killed right after it has committed that', () => {
  it.each(gatewayCases.commits)('$of is $phase', async ({ of, phase }) => {
    await despite[of](phase);
    expect(struck()).toBe(true);
  });
});

it('tells every event once, whatever died meanwhile', async () => {
  const { told, written } = await toldAndWritten(scene);
  expect(told).toEqual(written);
});
