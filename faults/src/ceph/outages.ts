import type { Operation } from '@m2/contracts';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { restarts } from '../children.js';
import { type ApiCalls, apiCallsOf, tidy } from '../api-calls.js';
import { NodeDisk } from '../node-disk.js';
import { askDeprovision, askProvision, ended, eventually, type TestInstallation, succeeded } from '../installation.js';
import {
  cephOf,
  type ObservedCeph,
  expectAsBefore,
  observeCeph,
  outcomeOf,
  storageDaemonsOf,
} from './observed-ceph.js';

/** For a write that waits until Ceph is back. */
const patienceMs = 300_000;
const away = /^storage\.(timeout|unavailable)$/;

/** A node that is on and works with its disk, while Ceph, or a part of it, is away. */
export function describeOutages(installation: () => TestInstallation): void {
  let standing: Operation;
  let disk: NodeDisk;
  let api: ApiCalls;
  let before: ObservedCeph;
  let services: Record<string, number>;
  let byte = 0;

  beforeAll(async () => {
    api = apiCallsOf(installation());
    standing = await succeeded(installation(), await askProvision(installation()));
    disk = await NodeDisk.of(installation());
    await disk.write(byte);
    before = await observeCeph(installation());
    services = await restarts(installation());
  });
  afterAll(async () => {
    await succeeded(installation(), await askDeprovision(installation(), standing.about['provision']!));
  });

  const ceph = () => cephOf(installation());
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
      const lines = (await readFile(join(installation().stage.state, 'logs/gateway.log'), 'utf8')).split('\n');
      const codes = lines
        .filter((line) => line.includes(id) && line.includes('a step is tried again'))
        .map((line) => (JSON.parse(line) as { code: string }).code);
      return codes.some((code) => away.test(code)) || undefined;
    });
  /**
   * What a client that was given up had sent to Ceph may be done after its tag was removed again. Nobody owns it then, and M2 removes it after its
   * grace time.
   */
  const repaired = () =>
    eventually('what came too late to be removed', async () => {
      const { left } = await installation().client.call('storageRepair');
      return left.length === 0 || undefined;
    });
  const expectClean = async () => {
    await back();
    await tidy(installation());
    await repaired();
    expect(await restarts(installation())).toEqual(services);
    await expectAsBefore(installation(), before);
  };

  describe('the OSD', () => {
    it('stops answering: nodes wait, people are told, and all goes on when it answers again', async () => {
      await ceph().signalOsd('SIGSTOP');
      try {
        const written = write();
        const tagging = await api.tag(standing.about['disk']!, 'meanwhile');
        const creating = await api.createDisk('meanwhile');
        await expect(installation().impatient.call('storageCheck')).rejects.toMatchObject({
          code: expect.stringMatching(away),
        });
        await Promise.all([triedAgain(tagging), triedAgain(creating)]);
        await ceph().signalOsd('SIGCONT');
        await written;
        await succeeded(installation(), tagging);
        await succeeded(installation(), creating);
      } finally {
        await ceph().signalOsd('SIGCONT');
      }
      await succeeded(installation(), await api.untag(standing.about['disk']!, 'meanwhile'));
      await expectClean();
    });

    it('is killed under writes and started again: nothing that was flushed is lost', async () => {
      await write();
      await ceph().killOsd();
      const written = write();
      const [creating, importing] = [await api.createDisk('meanwhile'), await api.importImage('meanwhile')];
      await ceph().startOsd();
      await written;
      await succeeded(installation(), creating);
      // A copy that was under way is undone. One that had not begun, or was complete, is not.
      expect(outcomeOf(await ended(installation(), importing))).toMatch(/^(succeeded|storage\.(timeout|unavailable))$/);
      await expectClean();
    });
  });

  it('the monitor is away: nodes work on, what needs it is said or waits, and all goes on when it is back', async () => {
    await ceph().stopMon();
    try {
      await write();
      const tagging = await api.tag(standing.about['disk']!, 'meanwhile');
      await triedAgain(tagging);
      await ceph().startMon();
      expect((await succeeded(installation(), tagging)).error).toBeNull();
    } finally {
      await ceph().startMon();
    }
    await succeeded(installation(), await api.untag(standing.about['disk']!, 'meanwhile'));
    await expectClean();
  });

  it('the pool is full: new things are refused and leave nothing, nodes wait, and all works when there is room', async () => {
    await ceph().setFull();
    try {
      const written = write();
      const asked = await Promise.all([
        api.importImage('too-much'),
        api.importImage('copy', { kind: 'image', image: 'golden' }),
        api.createDisk('too-much'),
        askProvision(installation(), { node: 'node-2' }),
      ]);
      for (const operation of asked)
        expect(await ended(installation(), operation)).toMatchObject({
          state: 'failed',
          error: { code: 'storage.full' },
        });
      await ceph().unsetFull();
      await written;
    } finally {
      await ceph().unsetFull();
    }
    await expectClean();
    await succeeded(installation(), await api.importImage('room'));
    await succeeded(installation(), await api.createDisk('room', { image: 'room' }));
    await expectClean();
  });

  it('the storage daemon of a project is killed under writes, and the disk is back with all that was flushed', async () => {
    await write();
    const writes = (async () => {
      for (;;) await disk.write(byte);
    })();
    writes.catch(() => {});
    const [daemon, ...others] = await storageDaemonsOf(installation());
    expect(others).toEqual([]);
    process.kill(daemon!, 'SIGKILL');
    await expect(writes).rejects.toThrow(/./);
    await back();
    const now = await storageDaemonsOf(installation());
    expect(now).not.toEqual([daemon]);
    before = { ...before, daemons: now };
    await expectClean();
  });
}
