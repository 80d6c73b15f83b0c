import type { Operation, ServiceName } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { happened } from './events.js';
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
  untilStep,
} from './installation.js';
import { serviceCases } from './kill-cases.js';
import { expectCarriedOut, expectRefused, requestsEnvironment } from './requests.js';
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

const mortal: ServiceName[] = ['image', 'iscsi', 'boot', 'hil'];

let installation: TestInstallation;

beforeAll(async () => {
  installation = await startTestInstallation({
    nodes: 1,
    mortal,
    twice: ['gateway', 'hil'],
    env: { image: requestsEnvironment },
  });
});
afterAll(() => installation?.close());

const kill = ({ service, subject, phase }: { service: ServiceName; subject: string; phase: string }) =>
  installation.killSwitch(service).arm({ channel: 'm2:command', at: { subject, phase } });

const idsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];

describe('while a provision is made,', () => {
  it.each(serviceCases.provision)('$service is killed in $name, $phase', async ({ step, ...point }) => {
    const { waitFor } = provisionRequestFor(step);
    let operation: Operation | undefined;
    const power = await powerCommands(installation, async () => {
      kill(point);
      operation = await askProvision(installation, { waitFor });
      if (waitFor === 'booted') await bootNode(installation);
      operation = await succeeded(installation, operation);
    });
    expect(installation.killSwitch(point.service).struck).toBe(true);
    expect(power).toEqual(['power 1']);
    await expectOnly(installation, [operation!], waitFor);
    expect(await happened(installation, idsOf(operation!))).toEqual({ ...made, ...(waitFor === 'booted' && booted) });
    await succeeded(installation, await askDeprovision(installation, operation!.about['provision']!));
    await expectNothing(installation);
  });
});

describe('while a provision is ended,', () => {
  it.each(serviceCases.deprovision)('$service is killed in $name, $phase', async ({ step, ...point }) => {
    const { disk } = deprovisionRequestFor(step);
    const { about, ...provision } = await succeeded(installation, await askProvision(installation));
    kill(point);
    await succeeded(installation, await askDeprovision(installation, about['provision']!, disk));
    expect(installation.killSwitch(point.service).struck).toBe(true);
    expect(await happened(installation, idsOf({ about, ...provision }))).toEqual({
      ...made,
      ...takenBack,
      ...(disk === 'delete' && removed),
    });
    if (disk === 'delete') return expectNothing(installation);
    await expectNothing(installation, [about['disk']!]);
    await succeeded(installation, await purgeDisk(installation, about['disk']!));
  });
});

describe('while somebody works on images and disks,', () => {
  it.each(serviceCases.requests)('$service is killed in $kind, $name, $phase', async ({ request, ...point }) => {
    await expectCarriedOut(installation, request, () => kill(point));
    expect(installation.killSwitch(point.service).struck).toBe(true);
  });
});

describe('while that is undone,', () => {
  it.each(serviceCases.refusals)('$service is killed in $kind, $name, $direction, $phase', async (refused) => {
    await expectRefused(installation, refused, () => kill(refused));
    expect(installation.killSwitch(refused.service).struck).toBe(true);
  });
});

describe('while a provision is undone,', () => {
  const last = provisionSteps.at(-1)!;
  const { waitFor } = provisionRequestFor(last);

  it.each(serviceCases.undo)('$service is killed in $name, $phase', async (point) => {
    const operation = await askProvision(installation, { waitFor });
    await untilStep(installation, operation, last.name, 'running');
    kill(point);
    await installation.client.call('operationCancel', { params: { id: operation.id } });
    expect(await ended(installation, operation)).toMatchObject({
      state: 'cancelled',
      error: { code: 'operation.cancelled' },
    });
    expect(installation.killSwitch(point.service).struck).toBe(true);
    await expectNothing(installation);
    expect(await happened(installation, idsOf(operation))).toEqual({ ...made, ...takenBack, ...removed });
  });
});
