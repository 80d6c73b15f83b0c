import {
  bootConfigCreate,
  diskAttach,
  diskDelete,
  exportCreate,
  M2Error,
  networkAttach,
  nodeReserve,
  nodeShow,
  powerBoot,
  powerOff,
} from '@m2/contracts';
import { until } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openGateway, type OperationBody, type TestGateway } from '../../testing/gateway.js';

let gateway: TestGateway;
let project: { id: string; name: string };
const at = '/v1/projects/lab/provisions';
let count = 0;

beforeAll(async () => {
  gateway = await openGateway();
  project = await gateway.project('lab');
  gateway.standIns.addImage('ubuntu', project.id);
});
afterAll(() => gateway?.close());
beforeEach(() => {
  gateway.standIns.asked.length = 0;
});

const newNode = () => gateway.standIns.addNode(`node-${(count += 1)}`);
const provision = async (node: string, more: object = {}, headers: Record<string, string> = {}) => {
  const answer = await gateway.ask('POST', at, { body: { node, image: 'ubuntu', waitFor: 'ready', ...more }, headers });
  return { ...answer, operation: answer.body as OperationBody };
};
const provisioned = async (node: string, more: object = {}) => {
  const { operation } = await provision(node, more);
  const end = await gateway.ended(operation);
  expect([end.state, end.error]).toEqual(['succeeded', null]);
  return end.about as { provision: string; disk: string };
};
const shown = async (id: string) =>
  (await gateway.ask('GET', `${at}/${id}`)).body as { state: string; endedAt: string | null };
const commands = () =>
  gateway.standIns.asked
    .filter(({ effect }) => effect !== undefined)
    .map(({ effect }) => effect!.split('/').slice(1).join(' '));

describe('a provision', () => {
  it('is ready when its node is on, and every step was sent in an order that makes sense', async () => {
    const node = newNode();
    const { provision: id } = await provisioned(node.name);
    expect(await shown(id)).toMatchObject({
      state: 'ready',
      node: node.id,
      nodeName: node.name,
      nic: 'eth0',
      endedAt: null,
    });
    const order = commands();
    expect(order.toSorted()).toEqual(
      ['arm-boot', 'attach-disk', 'attach-network', 'clone-disk', 'export-disk', 'power-on', 'reserve-node'].map(
        (step) => `${step} do`,
      ),
    );
    for (const [before, after] of [
      ['reserve-node', 'attach-network'],
      ['clone-disk', 'attach-disk'],
      ['attach-disk', 'export-disk'],
      ['export-disk', 'arm-boot'],
      ['attach-network', 'arm-boot'],
      ['arm-boot', 'power-on'],
    ])
      expect(order.indexOf(`${before} do`)).toBeLessThan(order.indexOf(`${after} do`));
  });

  it('is booted when its node phones home', async () => {
    const node = newNode();
    const { operation } = await provision(node.name, { waitFor: 'booted' });
    const config = await until('the boot is armed', () =>
      [...gateway.standIns.boots.values()].find((boot) => boot.node === node.id),
    );
    const report = { root: '/dev/sda1', boots: 1 };
    gateway.standIns.boots.set(config.id, { ...config, state: 'booted', report });
    expect(await gateway.ended(operation)).toMatchObject({ state: 'succeeded' });
    expect(await shown(operation.about['provision']!)).toMatchObject({ state: 'booted', report });
  });

  it('takes a disk that waits, and keeps it', async () => {
    const first = await provisioned(newNode().name, { diskName: 'kept' });
    const ended = await gateway.ask('DELETE', `${at}/${first.provision}`);
    await gateway.ended(ended.body as OperationBody);
    expect(gateway.standIns.disks.get(first.disk)).toMatchObject({ name: 'kept', holder: null });
    const second = await provisioned(newNode().name, { image: undefined, disk: 'kept' });
    expect(second.disk).toBe(first.disk);
    expect(commands().filter((command) => command.startsWith('clone-disk'))).toHaveLength(1);
  });

  it('is refused early where it cannot work', async () => {
    const busy = newNode();
    await provisioned(busy.name);
    const { disk } = await provisioned(newNode().name, { diskName: 'in-use' });
    expect(gateway.standIns.disks.get(disk)!.holder).not.toBeNull();
    const free = newNode().name;
    const importing = gateway.standIns.addImage('importing', project.id);
    gateway.standIns.images.set(importing.id, { ...importing, state: 'importing' });
    for (const [node, more, status, code] of [
      ['nowhere', {}, 404, 'node.not_found'],
      [free, { nic: 'eth7' }, 404, 'nic.not_found'],
      [free, { image: 'nothing' }, 404, 'image.not_found'],
      [free, { image: 'importing' }, 409, 'image.not_ready'],
      [free, { diskName: 'in-use' }, 409, 'disk.exists'],
      [free, { image: undefined, disk: 'in-use' }, 409, 'disk.in_use'],
      [free, { disk: 'in-use' }, 400, 'request.invalid'],
      [free, { image: undefined }, 400, 'request.invalid'],
      [busy.name, {}, 409, 'node.busy'],
    ] as const) {
      const answer = await provision(node, more);
      expect([more, answer.status, answer.body]).toMatchObject([more, status, { code }]);
    }
    expect((await provision(free)).status).toBe(202);
  });

  it('of two for one node at the same time is one', async () => {
    const node = newNode();
    const answers = await Promise.all([provision(node.name), provision(node.name), provision(node.name)]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([202, 409, 409]);
    for (const { status, operation } of answers)
      expect(status === 202 || operation).toMatchObject(status === 202 ? {} : { code: 'node.busy' });
    await gateway.ended(answers.find(({ status }) => status === 202)!.operation);
  });

  it('asked for several times with one Idempotency-Key is one, whenever the repetitions come', async () => {
    const node = newNode();
    const key = { 'idempotency-key': uuidv7() };
    const together = await Promise.all(Array.from({ length: 5 }, () => provision(node.name, {}, key)));
    await gateway.ended(together[0]!.operation);
    const later = await provision(node.name, {}, key);
    for (const { status, operation } of [...together, later])
      expect([status, operation.id]).toEqual([202, together[0]!.operation.id]);
  });

  it('whose twin comes while the first is still being checked, or recorded, is not refused for what the first one takes', async () => {
    const node = newNode();
    const key = { 'idempotency-key': uuidv7() };
    const asked = () => gateway.standIns.asked.filter(({ subject }) => subject === nodeShow.subject).length;
    const release = gateway.standIns.hold(nodeShow);
    const more = { diskName: `of-${node.name}` };
    const first = provision(node.name, more, key);
    await until('the first is being checked', () => asked() === 1);
    const twin = provision(node.name, more, key);
    release();
    const [one, two] = await Promise.all([first, twin]);
    expect([one.status, two.status, two.operation.id]).toEqual([202, 202, one.operation.id]);
    // The key is reserved before the checks: nothing was looked up for the twin.
    expect(asked()).toBe(1);
    await gateway.ended(one.operation);
  });
});

describe('a provision that fails', () => {
  it('gives everything back, in an order that harms nothing, and frees its node for the next', async () => {
    const node = newNode();
    gateway.standIns.fail(powerBoot, new M2Error('bmc.ignored_command', 'It said yes and did nothing'));
    const { operation } = await provision(node.name);
    const end = await gateway.ended(operation);
    expect(end).toMatchObject({ state: 'failed', error: { code: 'bmc.ignored_command' }, attention: null });
    const undone = commands().filter((command) => command.endsWith(' undo'));
    expect(undone[0]).toBe('power-on undo');
    expect(undone.toSorted()).toEqual(
      ['arm-boot', 'attach-disk', 'attach-network', 'clone-disk', 'export-disk', 'power-on', 'reserve-node'].map(
        (step) => `${step} undo`,
      ),
    );
    for (const [before, after] of [
      ['arm-boot', 'export-disk'],
      ['export-disk', 'attach-disk'],
      ['attach-disk', 'clone-disk'],
      ['attach-network', 'reserve-node'],
    ])
      expect(undone.indexOf(`${before} undo`)).toBeLessThan(undone.indexOf(`${after} undo`));
    expect(gateway.standIns.nodes.get(node.id)!.holder).toBeNull();
    expect([...gateway.standIns.boots.values()].some((boot) => boot.node === node.id)).toBe(false);
    expect(await shown(end.about['provision']!)).toMatchObject({
      state: 'failed',
      endedAt: expect.any(String) as string,
    });
    await provisioned(node.name);
  });

  it('does not touch a node that it did not get', async () => {
    const node = newNode();
    gateway.standIns.fail(nodeReserve, new M2Error('node.busy', 'Held by another'));
    await gateway.ended((await provision(node.name)).operation);
    expect(commands().some((command) => command.startsWith('power-on') || command.startsWith('attach-network'))).toBe(
      false,
    );
    expect(gateway.standIns.asked.map(({ subject }) => subject)).not.toContain(powerOff.subject);
  });

  it.each([diskAttach, exportCreate, networkAttach, bootConfigCreate])(
    'at $subject leaves nothing behind',
    async (call) => {
      const node = newNode();
      gateway.standIns.fail(call, new M2Error('storage.full', 'as the test says'));
      const end = await gateway.ended((await provision(node.name)).operation);
      expect(end.state).toBe('failed');
      expect(gateway.standIns.nodes.get(node.id)!.holder).toBeNull();
      expect(gateway.standIns.disks.has(end.about['disk']!)).toBe(false);
      const states = new Set(end.steps.map(({ state }) => state));
      expect(
        [...states].filter((state) => !['undone', 'waiting', 'skipped', 'unknown', 'done'].includes(state)),
      ).toEqual([]);
    },
  );
});

describe('a provision that is cancelled', () => {
  it('while it waits for its node to boot gives everything back', async () => {
    const node = newNode();
    const { operation } = await provision(node.name, { waitFor: 'booted' });
    await until('it waits for the boot', async () => {
      const { body } = await gateway.ask('GET', `/v1/operations/${operation.id}`);
      return (body as OperationBody).steps.at(-1)!.state === 'running';
    });
    const cancelled = await gateway.ask('POST', `/v1/operations/${operation.id}/cancel`);
    expect([cancelled.status, (cancelled.body as OperationBody).cancellable]).toEqual([202, false]);
    const end = await gateway.ended(operation);
    expect(end).toMatchObject({ state: 'cancelled', error: { code: 'operation.cancelled' } });
    expect(gateway.standIns.nodes.get(node.id)!.holder).toBeNull();
    expect(gateway.standIns.disks.has(end.about['disk']!)).toBe(false);
  });
});

describe('a deprovision', () => {
  it('powers off before it takes anything away, keeps the disk, and releases the node last', async () => {
    const node = newNode();
    const { provision: id, disk } = await provisioned(node.name);
    gateway.standIns.asked.length = 0;
    const { status, body } = await gateway.ask('DELETE', `${at}/${id}`);
    expect(status).toBe(202);
    await gateway.ended(body as OperationBody);
    const order = commands();
    expect(order[0]).toBe('power-off do');
    expect(order.at(-1)).toBe('release-node do');
    expect(order.indexOf('remove-export do')).toBeLessThan(order.indexOf('detach-disk do'));
    expect(order).not.toContain('delete-disk do');
    expect(gateway.standIns.disks.has(disk)).toBe(true);
    expect(await shown(id)).toMatchObject({ state: 'ended', endedAt: expect.any(String) as string });
    const again = await gateway.ask('DELETE', `${at}/${id}`);
    expect([again.status, again.body]).toMatchObject([404, { code: 'provision.not_found' }]);
  });

  it('deletes the disk where that is asked for', async () => {
    const { provision: id, disk } = await provisioned(newNode().name);
    const { body } = await gateway.ask('DELETE', `${at}/${id}?disk=delete`);
    await gateway.ended(body as OperationBody);
    expect(gateway.standIns.disks.has(disk)).toBe(false);
  });

  it('is refused where the disk cannot be deleted, and ends without that', async () => {
    const { provision: id, disk } = await provisioned(newNode().name, { diskName: 'forked' });
    gateway.standIns.storage.addDisk('its-fork', project.id, { fork: { disk, tag: uuidv7() } });
    const { status, body } = await gateway.ask('DELETE', `${at}/${id}?disk=delete`);
    expect([status, body]).toMatchObject([409, { code: 'tag.in_use', detail: expect.stringContaining('its-fork') }]);
    expect(await shown(id)).toMatchObject({ state: 'ready' });
    await gateway.ended((await gateway.ask('DELETE', `${at}/${id}`)).body as OperationBody);
    expect(await shown(id)).toMatchObject({ state: 'ended' });
  });

  it('whose disk is refused at the last moment has given the node back, and keeps nobody waiting', async () => {
    const node = newNode();
    const { provision: id, disk } = await provisioned(node.name);
    gateway.standIns.fail(diskDelete, new M2Error('tag.in_use', 'Made from it meanwhile'));
    const { body } = await gateway.ask('DELETE', `${at}/${id}?disk=delete`);
    const end = await gateway.ended(body as OperationBody);
    expect(end).toMatchObject({ state: 'failed', error: { code: 'tag.in_use' }, attention: null });
    expect(await shown(id)).toMatchObject({ state: 'ended', endedAt: expect.any(String) as string });
    expect(gateway.standIns.disks.get(disk)).toMatchObject({ holder: null, state: 'ready' });
    await provisioned(node.name);
  });

  it('cannot be cancelled, nor begun twice', async () => {
    const { provision: id } = await provisioned(newNode().name);
    const release = gateway.standIns.hold(powerOff);
    const { body } = await gateway.ask('DELETE', `${at}/${id}`);
    const operation = body as OperationBody;
    expect(operation.cancellable).toBe(false);
    const cancelled = await gateway.ask('POST', `/v1/operations/${operation.id}/cancel`);
    expect([cancelled.status, cancelled.body]).toMatchObject([409, { code: 'operation.not_cancellable' }]);
    const again = await gateway.ask('DELETE', `${at}/${id}`);
    expect([again.status, again.body]).toMatchObject([409, { code: 'provision.ending' }]);
    release();
    expect((await gateway.ended(operation)).state).toBe('succeeded');
  });

  it('of a provision that is still being made has to wait', async () => {
    const release = gateway.standIns.hold(powerBoot);
    const { operation } = await provision(newNode().name);
    const { status, body } = await gateway.ask('DELETE', `${at}/${operation.about['provision']}`);
    expect([status, body]).toMatchObject([409, { code: 'provision.ending' }]);
    release();
    await gateway.ended(operation);
  });
});

describe('the list of provisions', () => {
  it('holds those that have not ended, and all on request', async () => {
    const { provision: id } = await provisioned(newNode().name);
    const list = async (query = '') =>
      ((await gateway.ask('GET', `${at}?limit=500${query}`)).body as { items: { id: string }[] }).items.map(
        (item) => item.id,
      );
    expect(await list()).toContain(id);
    await gateway.ended((await gateway.ask('DELETE', `${at}/${id}`)).body as OperationBody);
    expect(await list()).not.toContain(id);
    expect(await list('&all=true')).toContain(id);
  });
});
