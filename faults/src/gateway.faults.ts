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
import { expectCarriedOut, expectRefused, refusalCases, requestCases, requestsEnvironment } from './requests.js';
import { expectNothing, expectOnly } from './things.js';
import {
  booted,
  deprovisionSteps,
  made,
  provisionSteps,
  removed,
  takenBack,
  wayToDeprovision,
  wayToProvision,
} from './ways.js';

/** A crash before the call, after the call and before its outcome is on record, and after that. */
const phases = ['intent', 'answered', 'committed'] as const;
let scene: Scene;

beforeAll(async () => {
  scene = await startScene({ nodes: 1, mortal: ['gateway'], env: { image: requestsEnvironment } });
});
afterAll(() => scene?.close());

const kill = (kind: string, step: string, direction: 'do' | 'undo', phase: string) =>
  scene.killSwitch('gateway').arm({ channel: 'm2:operation:step', at: { kind, step, direction, phase } });

const thingsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];

async function takeBack(operation: Operation): Promise<void> {
  await succeeded(scene, await askDeprovision(scene, operation.about['provision']!));
  await expectNothing(scene);
}

describe('the gateway is killed while it provisions', () => {
  const cases = provisionSteps.flatMap((step) => phases.map((phase) => ({ step, phase, name: step.name })));

  it.each(cases)('$name, $phase', async ({ step, phase }) => {
    const { waitFor } = wayToProvision(step);
    let operation: Operation | undefined;
    const power = await powerCommands(scene, async () => {
      kill('provision', step.name, 'do', phase);
      operation = await askProvision(scene, { waitFor });
      if (waitFor === 'booted') await bootNode(scene);
      operation = await succeeded(scene, operation);
    });
    expect(scene.killSwitch('gateway').struck).toBe(true);
    expect(power).toEqual(['power 1']);
    await expectOnly(scene, [operation!], waitFor);
    expect(await happened(scene, thingsOf(operation!))).toEqual({ ...made, ...(waitFor === 'booted' && booted) });
    await takeBack(operation!);
  });
});

describe('the gateway is killed while it deprovisions', () => {
  const cases = deprovisionSteps.flatMap((step) => phases.map((phase) => ({ step, phase, name: step.name })));

  it.each(cases)('$name, $phase', async ({ step, phase }) => {
    const { disk } = wayToDeprovision(step);
    const provision = await succeeded(scene, await askProvision(scene));
    kill('deprovision', step.name, 'do', phase);
    await succeeded(scene, await askDeprovision(scene, provision.about['provision']!, disk));
    expect(scene.killSwitch('gateway').struck).toBe(true);
    expect(await happened(scene, thingsOf(provision))).toEqual({
      ...made,
      ...takenBack,
      ...(disk === 'delete' && removed),
    });
    if (disk === 'delete') return expectNothing(scene);
    await expectNothing(scene, [provision.about['disk']!]);
    await removeDisk(provision.about['disk']!);
  });
});

describe('the gateway is killed while it undoes a provision', () => {
  const last = provisionSteps.at(-1)!;
  const { waitFor } = wayToProvision(last);
  const cases = provisionSteps
    .filter(({ undo }) => undo)
    .flatMap(({ name }) => phases.map((phase) => ({ name, phase })));

  it.each(cases)('$name, $phase', async ({ name, phase }) => {
    kill('provision', name, 'undo', phase);
    const operation = await askProvision(scene, { waitFor });
    await untilStep(scene, operation, last.name, 'running');
    await scene.client.call('operationCancel', { params: { id: operation.id } });
    expect(await ended(scene, operation)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
    expect(scene.killSwitch('gateway').struck).toBe(true);
    await expectNothing(scene);
    expect(await happened(scene, thingsOf(operation))).toEqual({ ...made, ...takenBack, ...removed });
  });
});

describe('the gateway is killed while it works on images and disks', () => {
  const cases = requestCases.flatMap((each) => phases.map((phase) => ({ ...each, phase })));

  it.each(cases)('$kind, $name, $phase', async ({ kind, request, step, phase }) => {
    await expectCarriedOut(scene, request, () => kill(kind, step.name, 'do', phase));
    expect(scene.killSwitch('gateway').struck).toBe(true);
  });
});

describe('the gateway is killed while it works on what is undone', () => {
  const cases = refusalCases.flatMap((each) => phases.map((phase) => ({ ...each, phase })));

  it.each(cases)('$kind, $name, $direction, $phase', async ({ phase, ...refused }) => {
    await expectRefused(scene, refused, () => kill(refused.kind, refused.step.name, refused.direction, phase));
    expect(scene.killSwitch('gateway').struck).toBe(true);
  });
});

describe('the gateway is killed around a step that fails', () => {
  it.each(phases)('%s', async (phase) => {
    const { bmc } = scene.stage.lab.nodes[0]!;
    const setPassword = (password: string) =>
      scene.client.call('nodeSetBmc', {
        params: { node: 'node-1' },
        body: { address: bmc.address, port: bmc.port, user: bmc.user, password, cipherSuites: [3] },
      });
    await setPassword('wrong');
    let operation: Operation;
    try {
      kill('provision', 'power-on', 'do', phase);
      operation = await askProvision(scene);
      await untilState(scene, operation, 'undoing', 'failed');
    } finally {
      // Who does not know whether the node was powered on has to ask its BMC, so the way back needs the right password.
      await setPassword(bmc.password);
    }
    expect(await ended(scene, operation)).toMatchObject({ state: 'failed', error: { code: 'bmc.auth_failed' } });
    expect(scene.killSwitch('gateway').struck).toBe(true);
    await expectNothing(scene);
  });
});

it('tells every event once, whatever died meanwhile', async () => {
  const { told, written } = await toldAndWritten(scene);
  expect(told).toEqual(written);
});

async function removeDisk(disk: string): Promise<void> {
  await succeeded(scene, await purgeDisk(scene, disk));
}
