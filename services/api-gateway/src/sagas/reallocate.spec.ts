import type { diskAttach, ReplyOf } from '@m2/contracts';
import { partOf, type Saga } from '@m2/saga';
import { World } from '@m2/saga/testing';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type DeprovisionInput, deprovisionSaga } from './deprovision.js';
import { type ProvisionInput, provisionSaga } from './provision.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

interface ReallocateInput {
  old: { project: string; input: DeprovisionInput };
  next: { project: string; input: ProvisionInput };
}

/** A node goes from one tenant to the next: what the next one needs of the storage is made while the node is still taken from the first. */
const reallocate: Saga<ReallocateInput> = {
  kind: 'provision',
  version: 1,
  forwardOnly: false,
  steps: (input) => [
    ...partOf(deprovisionSaga, input, { prefix: 'old.', of: ({ old }) => old }),
    ...partOf(provisionSaga, input, {
      prefix: 'next.',
      of: ({ next }) => next,
      after: { 'reserve-node': ['old.release-node'] },
    }),
  ],
};

const id = (n: number) => `0198f7a0-0000-7000-8000-00000000000${n}`;
const node = { node: id(1), nic: 'eth0', network: 'flat', bootConfig: id(4), exportId: id(5) };
const input: ReallocateInput = {
  old: { project: id(6), input: { ...node, provision: id(2), disk: id(7), deleteDisk: false } },
  next: {
    project: id(8),
    input: {
      ...node,
      provision: id(3),
      nodeName: 'node-1',
      mac: '52:54:00:00:00:01',
      disk: id(9),
      diskName: 'web-1',
      image: id(5),
      initiator: 'iqn.2018-10.io.m2:node.1',
      waitFor: 'ready',
      bootDeadlineMs: 1_000,
    },
  },
};
const attached: ReplyOf<typeof diskAttach> = {
  disk: {
    id: id(9),
    project: id(8),
    name: 'web-1',
    state: 'ready',
    image: null,
    fork: null,
    depth: 0,
    volume: '1img1',
    sizeBytes: 1,
    holder: id(3),
    flattening: null,
    createdAt: '2026-11-29T00:00:00.000Z',
    trashedAt: null,
  },
  backing: { type: 'file', path: '/x' },
};

const world = () => {
  const made = new World(reallocate as Saga<unknown>, input);
  made.replies.set('next.attach-disk', attached);
  return made;
};
const finish = async (made: World) => {
  const ended = made.takeOver().run();
  await vi.advanceTimersByTimeAsync(600_000);
  await ended;
  return made.ended.at(-1)!;
};
const at = (made: World, what: string) => made.sent.indexOf(what);

describe('two sagas as one', () => {
  it('overlap, and hand the node over when the first has given it back', async () => {
    const off = Promise.withResolvers<void>();
    const made = world().when('do old.power-off', off.promise);
    const running = made.takeOver().run();
    await vi.advanceTimersByTimeAsync(1_000);
    // The first tenant's node is not even off.
    expect(made.sent).toEqual(['do old.power-off', 'do next.clone-disk', 'do next.attach-disk', 'do next.export-disk']);
    off.resolve();
    await vi.advanceTimersByTimeAsync(1_000);
    await running;
    expect(made.ended.at(-1)).toMatchObject({ state: 'succeeded' });
    expect(at(made, 'do next.reserve-node')).toBeGreaterThan(at(made, 'do old.release-node'));
    expect(at(made, 'do next.power-on')).toBe(made.sent.length - 1);
    expect([made.state('old.delete-disk'), made.state('next.wait-for-boot')]).toEqual(['skipped', 'skipped']);
  });

  it('end apart when the second fails: it is undone, and the first is finished all the same', async () => {
    const off = Promise.withResolvers<void>();
    const made = world().when('do old.power-off', off.promise).when('do next.export-disk', { error: 'target.no_port' });
    setTimeout(() => off.resolve(), 30_000);
    expect(await finish(made)).toMatchObject({ state: 'failed', error: { code: 'target.no_port' } });
    expect([...made.present].filter((name) => name.startsWith('next.'))).toEqual([]);
    expect(made.state('old.release-node')).toBe('done');
    expect(made.sent.filter((what) => what.startsWith('undo old.'))).toEqual([]);
    expect(at(made, 'undo next.attach-disk')).toBeGreaterThan(at(made, 'do old.release-node'));
  });

  it('wait for a person when the first is stuck, and then go on', async () => {
    const made = world();
    made.when('do old.power-off', ...Array.from({ length: 99 }, () => ({ error: 'bmc.unreachable' as const })));
    const { state, attention } = await finish(made);
    expect(state).toBe('needs_attention');
    expect(attention).toMatch(/^old\.power-off could not be finished/);
    expect(made.sent.filter((what) => what.startsWith('undo '))).toEqual([]);
    made.when('do old.power-off', 'ok');
    expect(await finish(made)).toMatchObject({ state: 'succeeded' });
  });
});
