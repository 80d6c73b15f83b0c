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
  type TestInstallation,
  startTestInstallation,
  succeeded,
  untilState,
  untilStep,
} from './installation.js';
import { gatewayCases } from './kill-cases.js';
import { expectCarriedOut, expectRefused, requests, requestsEnvironment } from './requests.js';
import { expectNothing, expectOnly } from './observed-state.js';
import {
  booted,
  made,
  provisionSteps,
  removed,
  takenBack,
  deprovisionRequestFor,
  provisionRequestFor,
} from './provision-requests.js';

let installation: TestInstallation;

beforeAll(async () => {
  installation = await startTestInstallation({
    nodes: 1,
    mortal: ['gateway'],
    twice: ['gateway', 'hil'],
    env: { image: requestsEnvironment },
  });
});
afterAll(() => installation?.close());

type Arm = () => void;

/** Kills the gateway at a phase of a step. */
const atStep =
  (kind: string, step: string, direction: 'do' | 'undo', phase: string): Arm =>
  () =>
    installation.killSwitch('gateway').arm({ channel: 'm2:operation:step', at: { kind, step, direction, phase } });
/** Kills the gateway right after a COMMIT that changes a whole operation, before anything is answered. */
const atCommit =
  (kind: string, phase: string): Arm =>
  () =>
    installation.killSwitch('gateway').arm({ channel: 'm2:operation', at: { kind, phase } });

const idsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];
const struck = () => installation.killSwitch('gateway').struck;

async function provisionDespite(arm: Arm, waitFor: 'ready' | 'booted'): Promise<void> {
  let operation: Operation | undefined;
  const power = await powerCommands(installation, async () => {
    arm();
    operation = await askProvision(installation, { waitFor });
    if (waitFor === 'booted') await bootNode(installation);
    operation = await succeeded(installation, operation);
  });
  expect(power).toEqual(['power 1']);
  await expectOnly(installation, [operation!], waitFor);
  expect(await happened(installation, idsOf(operation!))).toEqual({ ...made, ...(waitFor === 'booted' && booted) });
  await succeeded(installation, await askDeprovision(installation, operation!.about['provision']!));
  await expectNothing(installation);
}

async function deprovisionDespite(arm: Arm, disk: 'keep' | 'delete'): Promise<void> {
  const provision = await succeeded(installation, await askProvision(installation));
  arm();
  await succeeded(installation, await askDeprovision(installation, provision.about['provision']!, disk));
  expect(await happened(installation, idsOf(provision))).toEqual({
    ...made,
    ...takenBack,
    ...(disk === 'delete' && removed),
  });
  if (disk === 'delete') return expectNothing(installation);
  await expectNothing(installation, [provision.about['disk']!]);
  await succeeded(installation, await purgeDisk(installation, provision.about['disk']!));
}

const last = provisionSteps.at(-1)!;

async function cancelDespite(arm: Arm): Promise<void> {
  arm();
  const operation = await askProvision(installation, { waitFor: provisionRequestFor(last).waitFor });
  await untilStep(installation, operation, last.name, 'running');
  await installation.client.call('operationCancel', { params: { id: operation.id } });
  expect(await ended(installation, operation)).toMatchObject({
    state: 'cancelled',
    error: { code: 'operation.cancelled' },
  });
  await expectNothing(installation);
  expect(await happened(installation, idsOf(operation))).toEqual({ ...made, ...takenBack, ...removed });
}

/** Its last command is refused, and all is undone. */
async function failDespite(arm: Arm): Promise<void> {
  const { bmc } = installation.stage.lab.nodes[0]!;
  const setPassword = (password: string) =>
    installation.client.call('nodeSetBmc', {
      params: { node: 'node-1' },
      body: { address: bmc.address, port: bmc.port, user: bmc.user, password, cipherSuites: [3] },
    });
  await setPassword('wrong');
  let operation: Operation;
  try {
    arm();
    operation = await askProvision(installation);
    await untilState(installation, operation, 'undoing', 'failed');
  } finally {
    // The undo has to ask the BMC whether the node was powered on, so it needs the right password.
    await setPassword(bmc.password);
  }
  expect(await ended(installation, operation)).toMatchObject({ state: 'failed', error: { code: 'bmc.auth_failed' } });
  await expectNothing(installation);
}

describe('the gateway is killed while it provisions', () => {
  it.each(gatewayCases.provision)('$name, $phase', async ({ step, phase }) => {
    await provisionDespite(atStep('provision', step.name, 'do', phase), provisionRequestFor(step).waitFor);
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it deprovisions', () => {
  it.each(gatewayCases.deprovision)('$name, $phase', async ({ step, phase }) => {
    await deprovisionDespite(atStep('deprovision', step.name, 'do', phase), deprovisionRequestFor(step).disk);
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
    await expectCarriedOut(installation, request, atStep(kind, step.name, 'do', phase));
    expect(struck()).toBe(true);
  });
});

describe('the gateway is killed while it works on what is undone', () => {
  it.each(gatewayCases.refusals)('$kind, $name, $direction, $phase', async ({ phase, ...refused }) => {
    await expectRefused(installation, refused, atStep(refused.kind, refused.step.name, refused.direction, phase));
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
  'an operation without a `settle`': (phase) => expectCarriedOut(installation, create!, atCommit('disk.create', phase)),
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
  const { told, written } = await toldAndWritten(installation);
  expect(told).toEqual(written);
});
