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
  type Scene,
  startScene,
  succeeded,
} from './scene.js';
import { expectNothing, expectOnly, sql, tgtdsOf } from './things.js';
import { deprovisionSteps, made, provisionSteps, removed, takenBack } from './ways.js';

let scene: Scene;

beforeAll(async () => {
  scene = await startScene({ nodes: 3, mortal: ['gateway', 'image', 'iscsi', 'boot', 'hil'] });
});
afterAll(() => scene?.close());

/** What the steps of the plain requests send: the conditional ones are covered where services are killed. */
const provisionCommands = actedCases(provisionSteps, 'do').filter(({ step }) => !step.wait);
const deprovisionCommands = actedCases(deprovisionSteps, 'do');

const killAt = (service: ServiceName, point: KillPoint) => scene.killSwitch(service).arm(point);
const commandPoint = (subject: string, phase: string, victim: number): KillPoint => ({
  channel: 'm2:command',
  at: { subject, phase },
  victim,
});

const thingsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];
const provisionOf = ({ about }: Operation) => about['provision']!;

describe.each(['nats', 'postgres'])('%s is killed, and no service dies of it,', (part) => {
  it.each(provisionCommands)('while a provision is made: $name has acted', async ({ service, subject, phase }) => {
    const before = await restarts(scene);
    killAt(service, commandPoint(subject, phase, await pidOf(scene, part)));
    const operation = await succeeded(scene, await askProvision(scene));
    expect(scene.killSwitch(service).struck).toBe(true);
    await expectOnly(scene, [operation]);
    expect(await happened(scene, thingsOf(operation))).toEqual(made);
    expect(await restarts(scene)).toEqual(before);
    await succeeded(scene, await askDeprovision(scene, provisionOf(operation)));
    await expectNothing(scene);
  });

  it.each(deprovisionCommands)('while one is ended: $name has acted', async ({ service, subject, phase }) => {
    const provision = await succeeded(scene, await askProvision(scene));
    const before = await restarts(scene);
    killAt(service, commandPoint(subject, phase, await pidOf(scene, part)));
    await succeeded(scene, await askDeprovision(scene, provisionOf(provision)));
    expect(scene.killSwitch(service).struck).toBe(true);
    await expectNothing(scene);
    expect(await happened(scene, thingsOf(provision))).toEqual({ ...made, ...takenBack, ...removed });
    expect(await restarts(scene)).toEqual(before);
  });

  it('between the journal and the call of every step', async () => {
    const steps = provisionSteps.filter((step) => !step.when || step.undo).map(({ name }) => name);
    const struck: string[] = [];
    for (const name of steps) {
      const at = { kind: 'provision', step: name, direction: 'do', phase: 'intent' };
      killAt('gateway', { channel: 'm2:operation:step', at, victim: await pidOf(scene, part) });
      const operation = await succeeded(scene, await askProvision(scene));
      if (scene.killSwitch('gateway').struck) struck.push(name);
      await expectOnly(scene, [operation]);
      await succeeded(scene, await askDeprovision(scene, provisionOf(operation)));
    }
    expect(struck).toEqual(steps);
    await expectNothing(scene);
  });
});

const tgtdOf = async (operation: Operation): Promise<number> => {
  const tgtds = await tgtdsOf(join(scene.stage.state, 'targets'));
  return tgtds.find(({ pool }) => pool === operation.project)!.pid;
};
const storageDaemon = async (): Promise<number> => {
  const record = await readFile(join(scene.stage.state, 'storage/daemon.json'), 'utf8');
  return (JSON.parse(record) as { pid: number }).pid;
};

/** A node that is on and works with its disk, while the others come and go. */
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
    standing = await succeeded(scene, await askProvision(scene));
    disk = await NodeDisk.of(scene);
  });
  afterAll(async () => {
    await succeeded(scene, await askDeprovision(scene, provisionOf(standing)));
    await expectNothing(scene);
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
    await expectOnly(scene, [standing]);
  });

  it.each(points.flatMap((point) => ['begin', 'acted'].map((phase) => ({ point, phase }))))(
    'while another node comes and goes: $point, $phase',
    async ({ point, phase }) => {
      const service = point.split('.')[0] as ServiceName;
      await written();
      killAt(service, commandPoint(`m2.cmd.${point}`, phase, await pid(standing)));
      const other = await succeeded(scene, await askProvision(scene, { node: 'node-2' }));
      await eventually('both disks', async () => {
        await disk.verify(byte);
        await (await NodeDisk.of(scene, 1)).write(byte);
        return true;
      });
      await expectOnly(scene, [standing, other]);
      await succeeded(scene, await askDeprovision(scene, provisionOf(other)));
      expect(scene.killSwitch(service).struck).toBe(true);
      await back();
      await expectOnly(scene, [standing]);
    },
  );
});

describe('the supervisor is killed', () => {
  it('and the next one takes over what runs: the node keeps its disk', async () => {
    const standing = await succeeded(scene, await askProvision(scene));
    const disk = await NodeDisk.of(scene);
    await disk.write(99);
    const tgtd = await tgtdOf(standing);
    process.kill((await status({ state: scene.stage.state }))!.pid, 'SIGKILL');
    await disk.verify(99);
    await up({ state: scene.stage.state, detach: true });
    await disk.verify(99);
    expect(await tgtdOf(standing)).toBe(tgtd);
    await expectOnly(scene, [standing]);
    await succeeded(scene, await askDeprovision(scene, provisionOf(standing)));
    await expectNothing(scene);
  });

  it('in the middle of a provision, and the next one lets it end', async () => {
    const operation = await askProvision(scene);
    process.kill((await status({ state: scene.stage.state }))!.pid, 'SIGKILL');
    await up({ state: scene.stage.state, detach: true });
    const last = await ended(scene, operation);
    expect(last.state).toBe('succeeded');
    await expectOnly(scene, [last]);
    await succeeded(scene, await askDeprovision(scene, provisionOf(operation)));
    await expectNothing(scene);
  });
});

describe('several want the same at the same moment', () => {
  /** The operations that were accepted, and the codes of the refusals. */
  const race = async (requests: Parameters<typeof askProvision>[1][]) => {
    const answers = await Promise.allSettled(requests.map((request) => askProvision(scene, request)));
    const accepted = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []));
    const refused = answers.flatMap((answer) =>
      answer.status === 'rejected' ? [(answer.reason as { code: string }).code] : [],
    );
    return { accepted: await Promise.all(accepted.map((operation) => ended(scene, operation))), refused };
  };
  const expectOneWinner = async (operations: Operation[], code: string) => {
    const winners = operations.filter(({ state }) => state === 'succeeded');
    expect(winners.length).toBe(1);
    const losers = operations.filter(({ state }) => state !== 'succeeded');
    for (const loser of losers) expect(loser).toMatchObject({ state: 'failed', error: { code } });
    await expectOnly(scene, winners);
    await succeeded(scene, await askDeprovision(scene, provisionOf(winners[0]!), 'keep'));
    return losers.length;
  };
  const oneNode = () => Array.from({ length: 5 }, () => ({ node: 'node-1' }));
  const oneDisk = (disk: string) => [1, 2, 3].map((place) => ({ node: `node-${place}`, disk }));
  const newDisk = async () => {
    const { project } = scene.stage;
    const body = { name: 'wanted', image: 'golden' };
    return (await succeeded(scene, await scene.client.call('diskCreate', { params: { project }, body }))).about[
      'disk'
    ]!;
  };
  const removeDisks = async () => {
    const { project } = scene.stage;
    const { items } = await scene.client.list('diskList', { params: { project } });
    for (const { id } of items) await succeeded(scene, await purgeDisk(scene, id));
    await expectNothing(scene);
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

  /** The door's quick answer is taken away, as if several gateways had asked at once: the services' own locks decide. */
  it('a node and a disk: where the door lets all in, one wins, and the others leave nothing', async () => {
    await sql(scene, `DROP INDEX m2_gateway.provisions_node, m2_gateway.provisions_disk; SELECT 1`);
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
  const { told, written } = await toldAndWritten(scene);
  expect(told).toEqual(written);
});
