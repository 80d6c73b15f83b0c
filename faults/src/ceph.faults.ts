import type { Operation } from '@m2/contracts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCephInstallation } from './ceph/installation.js';
import { expectAsBefore, observeCeph, type ObservedCeph } from './ceph/observed-ceph.js';
import { describeOutages } from './ceph/outages.js';
import { describeProjects } from './ceph/projects.js';
import { actedCases } from './commands.js';
import { happened } from './events.js';
import { askDeprovision, askProvision, type TestInstallation, succeeded } from './installation.js';
import { deprovisionSteps, made, provisionSteps, removed, takenBack } from './provision-requests.js';

let started: TestInstallation;
const installation = () => started;

beforeAll(async () => {
  started = await startCephInstallation();
});
afterAll(() => started?.close());

const ofStorage = ({ service }: { service: string }) => service === 'image' || service === 'iscsi';
const idsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];

describe('a node with a disk in Ceph', () => {
  let before: ObservedCeph;
  beforeAll(async () => {
    before = await observeCeph(started);
  });
  const kill = ({ service, subject, phase }: { service: 'image' | 'iscsi'; subject: string; phase: string }) =>
    started.killSwitch(service).arm({ channel: 'm2:command', at: { subject, phase } });

  it.each(actedCases(provisionSteps, 'do').filter(ofStorage))(
    'comes although $service is killed in $name',
    async (point) => {
      kill(point as never);
      const operation = await succeeded(started, await askProvision(started));
      expect(started.killSwitch(point.service).struck).toBe(true);
      expect(await happened(started, idsOf(operation))).toEqual(made);
      await succeeded(started, await askDeprovision(started, operation.about['provision']!));
      await expectAsBefore(started, before);
    },
  );

  it.each(actedCases(deprovisionSteps, 'do').filter(ofStorage))(
    'goes although $service is killed in $name',
    async (point) => {
      const provision = await succeeded(started, await askProvision(started));
      kill(point as never);
      await succeeded(started, await askDeprovision(started, provision.about['provision']!));
      expect(started.killSwitch(point.service).struck).toBe(true);
      expect(await happened(started, idsOf(provision))).toEqual({ ...made, ...takenBack, ...removed });
      await expectAsBefore(started, before);
    },
  );
});

describe('while a node works with its disk,', () => {
  describeOutages(installation);
});
describe('a project of its own in Ceph:', () => {
  describeProjects(installation);
});
