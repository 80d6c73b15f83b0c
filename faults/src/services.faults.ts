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
  type Scene,
  startScene,
  succeeded,
  untilStep,
} from './scene.js';
import { serviceCases } from './kill-cases.js';
import { expectCarriedOut, expectRefused, requestsEnvironment } from './requests.js';
import { expectNothing, expectOnly } from './things.js';
import { booted, made, provisionSteps, removed, takenBack, wayToDeprovision, wayToProvision } from './ways.js';

const mortal: ServiceName[] = ['image', 'iscsi', 'boot', 'hil'];

let scene: Scene;

beforeAll(async () => {
  scene = await startScene({ nodes: 1, mortal, env: { image: requestsEnvironment } });
});
afterAll(() => scene?.close());

const kill = ({ service, subject, phase }: { service: ServiceName; subject: string; phase: string }) =>
  scene.killSwitch(service).arm({ channel: 'm2:command', at: { subject, phase } });

const thingsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];

describe('while a provision is made,', () => {
  it.each(serviceCases.provision)('$service is killed in $name, $phase', async ({ step, ...point }) => {
    const { waitFor } = wayToProvision(step);
    let operation: Operation | undefined;
    const power = await powerCommands(scene, async () => {
      kill(point);
      operation = await askProvision(scene, { waitFor });
      if (waitFor === 'booted') await bootNode(scene);
      operation = await succeeded(scene, operation);
    });
    expect(scene.killSwitch(point.service).struck).toBe(true);
    expect(power).toEqual(['power 1']);
    await expectOnly(scene, [operation!], waitFor);
    expect(await happened(scene, thingsOf(operation!))).toEqual({ ...made, ...(waitFor === 'booted' && booted) });
    await succeeded(scene, await askDeprovision(scene, operation!.about['provision']!));
    await expectNothing(scene);
  });
});

describe('while a provision is ended,', () => {
  it.each(serviceCases.deprovision)('$service is killed in $name, $phase', async ({ step, ...point }) => {
    const { disk } = wayToDeprovision(step);
    const { about, ...provision } = await succeeded(scene, await askProvision(scene));
    kill(point);
    await succeeded(scene, await askDeprovision(scene, about['provision']!, disk));
    expect(scene.killSwitch(point.service).struck).toBe(true);
    expect(await happened(scene, thingsOf({ about, ...provision }))).toEqual({
      ...made,
      ...takenBack,
      ...(disk === 'delete' && removed),
    });
    if (disk === 'delete') return expectNothing(scene);
    await expectNothing(scene, [about['disk']!]);
    await succeeded(scene, await purgeDisk(scene, about['disk']!));
  });
});

describe('while somebody works on images and disks,', () => {
  it.each(serviceCases.requests)('$service is killed in $kind, $name, $phase', async ({ request, ...point }) => {
    await expectCarriedOut(scene, request, () => kill(point));
    expect(scene.killSwitch(point.service).struck).toBe(true);
  });
});

describe('while that is undone,', () => {
  it.each(serviceCases.refusals)('$service is killed in $kind, $name, $direction, $phase', async (refused) => {
    await expectRefused(scene, refused, () => kill(refused));
    expect(scene.killSwitch(refused.service).struck).toBe(true);
  });
});

describe('while a provision is undone,', () => {
  const last = provisionSteps.at(-1)!;
  const { waitFor } = wayToProvision(last);

  it.each(serviceCases.undo)('$service is killed in $name, $phase', async (point) => {
    const operation = await askProvision(scene, { waitFor });
    await untilStep(scene, operation, last.name, 'running');
    kill(point);
    await scene.client.call('operationCancel', { params: { id: operation.id } });
    expect(await ended(scene, operation)).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
    expect(scene.killSwitch(point.service).struck).toBe(true);
    await expectNothing(scene);
    expect(await happened(scene, thingsOf(operation))).toEqual({ ...made, ...takenBack, ...removed });
  });
});
