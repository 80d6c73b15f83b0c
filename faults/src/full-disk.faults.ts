import type { ApiError } from '@m2/cli';
import { status } from '@m2/supervisor';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { toldAndWritten } from './events.js';
import {
  askDeprovision,
  askProvision,
  ended,
  eventually,
  type TestInstallation,
  startTestInstallation,
  succeeded,
} from './installation.js';
import { NodeDisk } from './node-disk.js';
import { expectNothing, expectOnly, sql } from './observed-state.js';
import { mayMount, SmallDisk } from './small-disk.js';

/** Room for the database, the streams and the volumes of these tests, with some to spare. */
const megabytes = 700;

describe.skipIf(!mayMount())('the file system under database, events and volumes is full (needs root)', () => {
  let disk: SmallDisk;
  let installation: TestInstallation;

  beforeAll(async () => {
    disk = new SmallDisk(megabytes);
    installation = await startTestInstallation({ nodes: 2, state: disk.path });
  });
  afterAll(async () => {
    disk.makeRoom();
    await installation?.close();
    disk.remove();
  });

  const childOf = async (name: string) =>
    (await status({ state: installation.stage.state }))!.children.find((child) => child.name === name)!;

  const killed = async (name: string) => {
    const { pid, restarts } = await childOf(name);
    if (pid !== null) process.kill(pid, 'SIGKILL');
    await eventually(`another ${name}`, async () => ((await childOf(name)).restarts > restarts ? true : undefined));
  };

  let projects = 0;
  /** Asks for changes until there is no room for one, and returns what the asker is told. */
  const refusal = () =>
    eventually('a change to be refused', async () => {
      disk.fill();
      // PostgreSQL has room in the segment of its log that it is writing; the next one has none.
      await sql(installation, `SELECT to_json(pg_switch_wal()::text)`).catch(() => {});
      projects += 1;
      return installation.impatient.call('projectCreate', { body: { name: `full-${projects}` } }).then(
        () => undefined,
        (error: ApiError) => error,
      );
    });

  it.each([
    { dies: [] },
    { dies: ['gateway'] },
    { dies: ['nats'] },
    { dies: ['postgres'] },
    { dies: ['gateway', 'nats'] },
  ])('while $dies are killed: people are told, and all goes on when there is room', async ({ dies }) => {
    const standing = await succeeded(installation, await askProvision(installation));
    const nodeDisk = await NodeDisk.of(installation);
    await nodeDisk.write(7);
    const asked = await askProvision(installation, { node: 'node-2' });
    const { status: code, code: error } = await refusal();
    expect({ code, error }).toEqual({ code: 503, error: 'service.unavailable' });
    for (const name of dies) await killed(name);
    disk.makeRoom();
    const last = await ended(installation, asked);
    // What a full storage refused was undone.
    const outcomes = [['succeeded'], ['failed', 'storage.full']];
    expect(outcomes).toContainEqual([last.state, last.error?.code].filter(Boolean));
    await expectOnly(installation, last.state === 'succeeded' ? [standing, last] : [standing]);
    await nodeDisk.verify(7);
    for (const { about, state } of [standing, last])
      if (state === 'succeeded') await succeeded(installation, await askDeprovision(installation, about['provision']!));
    await expectNothing(installation);
    const { told, written } = await toldAndWritten(installation);
    expect(told).toEqual(written);
  });
});
