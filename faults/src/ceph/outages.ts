import type { Operation } from '@m2/contracts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { restarts } from '../children.js';
import { type Hands, handsOf, tidy } from '../hands.js';
import { NodeDisk } from '../node-disk.js';
import { askDeprovision, askProvision, ended, eventually, type Scene, succeeded } from '../scene.js';
import { cephOf, type CephThings, expectAsBefore, lookAtCeph, outcomeOf, storageDaemonsOf } from './ground.js';

/** For a write that waits until Ceph is back. */
const patienceMs = 300_000;
const away = /^storage\.(timeout|unavailable)$/;

/** A node that is on and works with its disk, while Ceph, or a part of it, is away. */
export function describeOutages(scene: () => Scene): void {
  let standing: Operation;
  let disk: NodeDisk;
  let hands: Hands;
  let before: CephThings;
  let services: Record<string, number>;
  let byte = 0;

  beforeAll(async () => {
    hands = handsOf(scene());
    standing = await succeeded(scene(), await askProvision(scene()));
    disk = await NodeDisk.of(scene());
    await disk.write(byte);
    before = await lookAtCeph(scene());
    services = await restarts(scene());
  });
  afterAll(async () => {
    await succeeded(scene(), await askDeprovision(scene(), standing.about['provision']!));
  });

  const ceph = () => cephOf(scene());
  /** Begins a write, which may take a long time. */
  const write = () => {
    byte += 1;
    const written = disk.write(byte, patienceMs);
    written.catch(() => {});
    return written;
  };
  const back = () =>
    eventually('the disk to be back', async () => {
      await disk.verify(byte);
      return true;
    });
  /** Waits until a service has answered the gateway that the storage is away. */
  const triedAgain = ({ id, kind }: Operation) =>
    eventually(`the ${kind} to be tried again`, async () => {
      const lines = (await readFile(join(scene().stage.state, 'logs/gateway.log'), 'utf8')).split('\n');
      const codes = lines
        .filter((line) => line.includes(id) && line.includes('a step is tried again'))
        .map((line) => (JSON.parse(line) as { code: string }).code);
      return codes.some((code) => away.test(code)) || undefined;
    });
  const expectClean = async () => {
    await back();
    await tidy(scene());
    expect(await restarts(scene())).toEqual(services);
    await expectAsBefore(scene(), before);
  };

  describe('the OSD', () => {
    it('stops answering: nodes wait, people are told, and all goes on when it answers again', async () => {
      await ceph().signalOsd('SIGSTOP');
      try {
        const written = write();
        const tagging = await hands.tag(standing.about['disk']!, 'meanwhile');
        const creating = await hands.createDisk('meanwhile');
        await expect(scene().impatient.call('storageCheck')).rejects.toMatchObject({
          code: expect.stringMatching(away),
        });
        await Promise.all([triedAgain(tagging), triedAgain(creating)]);
        await ceph().signalOsd('SIGCONT');
        await written;
        await succeeded(scene(), tagging);
        await succeeded(scene(), creating);
      } finally {
        await ceph().signalOsd('SIGCONT');
      }
      await succeeded(scene(), await hands.untag(standing.about['disk']!, 'meanwhile'));
      await expectClean();
    });

    it('is killed under writes and started again: nothing that was flushed is lost', async () => {
      await write();
      await ceph().killOsd();
      const written = write();
      const [creating, importing] = [await hands.createDisk('meanwhile'), await hands.importImage('meanwhile')];
      await ceph().startOsd();
      await written;
      await succeeded(scene(), creating);
      // A copy that was under way is undone. One that had not begun, or was complete, is not.
      expect(outcomeOf(await ended(scene(), importing))).toMatch(/^(succeeded|storage\.(timeout|unavailable))$/);
      await expectClean();
    });
  });

  it('the monitor is away: nodes work on, what needs it is said or waits, and all goes on when it is back', async () => {
    await ceph().stopMon();
    try {
      await write();
      const tagging = await hands.tag(standing.about['disk']!, 'meanwhile');
      await triedAgain(tagging);
      await ceph().startMon();
      expect((await succeeded(scene(), tagging)).error).toBeNull();
    } finally {
      await ceph().startMon();
    }
    await succeeded(scene(), await hands.untag(standing.about['disk']!, 'meanwhile'));
    await expectClean();
  });

  it('the pool is full: new things are refused and leave nothing, nodes wait, and all works when there is room', async () => {
    await ceph().setFull();
    try {
      const written = write();
      const asked = await Promise.all([
        hands.importImage('too-much'),
        hands.importImage('copy', { kind: 'image', image: 'golden' }),
        hands.createDisk('too-much'),
        askProvision(scene(), { node: 'node-2' }),
      ]);
      for (const operation of asked)
        expect(await ended(scene(), operation)).toMatchObject({ state: 'failed', error: { code: 'storage.full' } });
      await ceph().unsetFull();
      await written;
    } finally {
      await ceph().unsetFull();
    }
    await expectClean();
    await succeeded(scene(), await hands.importImage('room'));
    await succeeded(scene(), await hands.createDisk('room', { image: 'room' }));
    await expectClean();
  });

  it('the storage daemon of a project is killed under writes, and the disk is back with all that was flushed', async () => {
    await write();
    const writes = (async () => {
      for (;;) await disk.write(byte);
    })();
    writes.catch(() => {});
    const [daemon, ...others] = await storageDaemonsOf(scene());
    expect(others).toEqual([]);
    process.kill(daemon!, 'SIGKILL');
    await expect(writes).rejects.toThrow(/./);
    await back();
    const now = await storageDaemonsOf(scene());
    expect(now).not.toEqual([daemon]);
    before = { ...before, daemons: now };
    await expectClean();
  });
}
