import type { Operation, ServiceName } from '@m2/contracts';
import { status, up } from '@m2/supervisor';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pidOf, restarts } from './children.js';
import { actedCases } from './commands.js';
import { happened, toldAndWritten } from './events.js';
import type { KillPoint } from './kill-switch.js';
import { NodeDisk } from './node-disk.js';
import {
  askDeprovision,
  askProvision,
  ended,
  eventually,
  purgeDisk,
  type TestInstallation,
  startTestInstallation,
  succeeded,
} from './installation.js';
import { expectNothing, expectOnly, sql, tgtdsOf } from './observed-state.js';
import { deprovisionSteps, made, provisionSteps, removed, takenBack } from './provision-requests.js';

let installation: TestInstallation;

beforeAll(async () => {
  installation = await startTestInstallation({ nodes: 3, mortal: ['gateway', 'image', 'iscsi', 'boot', 'hil'] });
});
afterAll(() => installation?.close());

/** The commands of unconditional steps. Conditional ones are covered by services.faults.ts. */
const provisionCommands = actedCases(provisionSteps, 'do').filter(({ step }) => !step.wait);
const deprovisionCommands = actedCases(deprovisionSteps, 'do');

const killAt = (service: ServiceName, point: KillPoint) => installation.killSwitch(service).arm(point);
const commandPoint = (subject: string, phase: string, victim: number): KillPoint => ({
  channel: 'm2:command',
  at: { subject, phase },
  victim,
});

const idsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];
const provisionOf = ({ about }: Operation) => about['provision']!;

describe.each(['nats', 'postgres'])('%s is killed, and no service dies of it,', (part) => {
  it.each(provisionCommands)('while a provision is made: $name has acted', async ({ service, subject, phase }) => {
    const before = await restarts(installation);
    killAt(service, commandPoint(subject, phase, await pidOf(installation, part)));
    const operation = await succeeded(installation, await askProvision(installation));
    expect(installation.killSwitch(service).struck).toBe(true);
    await expectOnly(installation, [operation]);
    expect(await happened(installation, idsOf(operation))).toEqual(made);
    expect(await restarts(installation)).toEqual(before);
    await succeeded(installation, await askDeprovision(installation, provisionOf(operation)));
    await expectNothing(installation);
  });

  it.each(deprovisionCommands)('while one is ended: $name has acted', async ({ service, subject, phase }) => {
    const provision = await succeeded(installation, await askProvision(installation));
    const before = await restarts(installation);
    killAt(service, commandPoint(subject, phase, await pidOf(installation, part)));
    await succeeded(installation, await askDeprovision(installation, provisionOf(provision)));
    expect(installation.killSwitch(service).struck).toBe(true);
    await expectNothing(installation);
    expect(await happened(installation, idsOf(provision))).toEqual({ ...made, ...takenBack, ...removed });
    expect(await restarts(installation)).toEqual(before);
  });

  it('between the journal and the call of every step', async () => {
    const steps = provisionSteps.filter((step) => !step.when || step.undo).map(({ name }) => name);
    const struck: string[] = [];
    for (const name of steps) {
      const at = { kind: 'provision', step: name, direction: 'do', phase: 'intent' };
      killAt('gateway', { channel: 'm2:operation:step', at, victim: await pidOf(installation, part) });
      const operation = await succeeded(installation, await askProvision(installation));
      if (installation.killSwitch('gateway').struck) struck.push(name);
      await expectOnly(installation, [operation]);
      await succeeded(installation, await askDeprovision(installation, provisionOf(operation)));
    }
    expect(struck).toEqual(steps);
    await expectNothing(installation);
  });
});

const tgtdOf = async (operation: Operation): Promise<number> => {
  const tgtds = await tgtdsOf(join(installation.stage.state, 'targets'));
  return tgtds.find(({ pool }) => pool === operation.project)!.pid;
};
const storageDaemon = async (): Promise<number> => {
  const record = await readFile(join(installation.stage.state, 'storage/daemon.json'), 'utf8');
  return (JSON.parse(record) as { pid: number }).pid;
};

/** One node works with its disk, while others are provisioned and deprovisioned. */
describe.each([
  { part: 'tgtd', pid: tgtdOf, points: ['iscsi.export.create', 'iscsi.export.delete'] },
  {
    part: 'the storage daemon',
    pid: storageDaemon,
    points: ['image.disk.attach', 'image.disk.detach', 'iscsi.export.create'],
  },
])('$part is killed', ({ pid, points }) => {
  let standing: Operation;
  let disk: NodeDisk;
  let byte = 0;

  beforeAll(async () => {
    standing = await succeeded(installation, await askProvision(installation));
    disk = await NodeDisk.of(installation);
  });
  afterAll(async () => {
    await succeeded(installation, await askDeprovision(installation, provisionOf(standing)));
    await expectNothing(installation);
  });

  const written = async () => {
    byte += 1;
    await disk.write(byte);
  };
  /** At the portal that the node knows, with what it flushed. */
  const back = () =>
    eventually('the disk to be back', async () => {
      await disk.verify(byte);
      return true;
    });

  it('and the disk is back at the same portal, with all that was flushed', async () => {
    await written();
    process.kill(await pid(standing), 'SIGKILL');
    await expect(back()).resolves.toBe(true);
    await expectOnly(installation, [standing]);
  });

  it.each(points.flatMap((point) => ['begin', 'acted'].map((phase) => ({ point, phase }))))(
    'while another node comes and goes: $point, $phase',
    async ({ point, phase }) => {
      const service = point.split('.')[0] as ServiceName;
      await written();
      killAt(service, commandPoint(`m2.cmd.${point}`, phase, await pid(standing)));
      const other = await succeeded(installation, await askProvision(installation, { node: 'node-2' }));
      await eventually('both disks', async () => {
        await disk.verify(byte);
        await (await NodeDisk.of(installation, 1)).write(byte);
        return true;
      });
      await expectOnly(installation, [standing, other]);
      await succeeded(installation, await askDeprovision(installation, provisionOf(other)));
      expect(installation.killSwitch(service).struck).toBe(true);
      await back();
      await expectOnly(installation, [standing]);
    },
  );
});

describe('the supervisor is killed', () => {
  it('and the next one takes over what runs: the node keeps its disk', async () => {
    const standing = await succeeded(installation, await askProvision(installation));
    const disk = await NodeDisk.of(installation);
    await disk.write(99);
    const tgtd = await tgtdOf(standing);
    process.kill((await status({ state: installation.stage.state }))!.pid, 'SIGKILL');
    await disk.verify(99);
    await up({ state: installation.stage.state, detach: true });
    await disk.verify(99);
    expect(await tgtdOf(standing)).toBe(tgtd);
    await expectOnly(installation, [standing]);
    await succeeded(installation, await askDeprovision(installation, provisionOf(standing)));
    await expectNothing(installation);
  });

  it('in the middle of a provision, and the next one lets it end', async () => {
    const operation = await askProvision(installation);
    process.kill((await status({ state: installation.stage.state }))!.pid, 'SIGKILL');
    await up({ state: installation.stage.state, detach: true });
    const last = await ended(installation, operation);
    expect(last.state).toBe('succeeded');
    await expectOnly(installation, [last]);
    await succeeded(installation, await askDeprovision(installation, provisionOf(operation)));
    await expectNothing(installation);
  });
});

describe('several want the same at the same moment', () => {
  /** The operations that were accepted, and the codes of the refusals. */
  const race = async (requests: Parameters<typeof askProvision>[1][]) => {
    const answers = await Promise.allSettled(requests.map((request) => askProvision(installation, request)));
    const accepted = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
    const refused = answers.flatMap((answer) =>
      answer.status === 'rejected' ? [(answer.reason as { code: string }).code] : [],
    );
    return { accepted: await Promise.all(accepted.map((operation) => ended(installation, operation))), refused };
  };
  const expectOneWinner = async (operations: Operation[], code: string) => {
    const winners = operations.filter(({ state }) => state === 'succeeded');
    expect(winners.length).toBe(1);
    const losers = operations.filter(({ state }) => state !== 'succeeded');
    for (const loser of losers) expect(loser).toMatchObject({ state: 'failed', error: { code } });
    await expectOnly(installation, winners);
    await succeeded(installation, await askDeprovision(installation, provisionOf(winners[0]!), 'keep'));
    return losers.length;
  };
  const oneNode = () => Array.from({ length: 5 }, () => ({ node: 'node-1' }));
  const oneDisk = (disk: string) => [1, 2, 3].map((place) => ({ node: `node-${place}`, disk }));
  const newDisk = async () => {
    const { project } = installation.stage;
    const body = { name: 'wanted', image: 'golden' };
    return (await succeeded(installation, await installation.client.call('diskCreate', { params: { project }, body })))
      .about['disk']!;
  };
  const removeDisks = async () => {
    const { project } = installation.stage;
    const { items } = await installation.client.list('diskList', { params: { project } });
    for (const { id } of items) await succeeded(installation, await purgeDisk(installation, id));
    await expectNothing(installation);
  };

  it('a node: the door lets one in', async () => {
    const { accepted, refused } = await race(oneNode());
    expect(refused).toEqual(Array(4).fill('node.busy'));
    await expectOneWinner(accepted, 'node.busy');
    await removeDisks();
  });

  it('a disk: the door lets one in', async () => {
    const { accepted, refused } = await race(oneDisk(await newDisk()));
    expect(refused).toEqual(Array(2).fill('disk.in_use'));
    await expectOneWinner(accepted, 'disk.in_use');
    await removeDisks();
  });

  /** Without the gateway's own check, as if several gateways had asked at once: the services' locks decide. */
  it('a node and a disk: where the door lets all in, one wins, and the others leave nothing', async () => {
    await sql(installation, `DROP INDEX m2_gateway.provisions_node, m2_gateway.provisions_disk; SELECT 1`);
    const node = await race(oneNode());
    expect(node.accepted.length + node.refused.length).toBe(5);
    expect(await expectOneWinner(node.accepted, 'node.busy')).toBe(node.accepted.length - 1);
    await removeDisks();
    const disk = await race(oneDisk(await newDisk()));
    expect(await expectOneWinner(disk.accepted, 'disk.in_use')).toBe(disk.accepted.length - 1);
    await removeDisks();
  });
});

it('tells every event once, whatever died meanwhile', async () => {
  const { told, written } = await toldAndWritten(installation);
  expect(told).toEqual(written);
});
