import {
  nodeList,
  nodeMarkBroken,
  nodeMarkRepaired,
  nodeRegister,
  nodeRelease,
  nodeRemove,
  nodeReserve,
  nodeSetBmc,
  nodeShow,
} from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openHil, type TestHil } from '../testing/hil.js';

let hil: TestHil;
beforeAll(async () => {
  hil = await openHil();
});
afterAll(() => hil?.close());

describe('a node', () => {
  it('is registered with its nics in the order that was given, and its password is kept from everybody', async () => {
    const node = await hil.register();
    expect(node).toMatchObject({
      holder: null,
      holderProject: null,
      firmware: 'bios',
      nics: [{ label: 'eth1' }, { label: 'eth0' }],
    });
    for (const which of [node.id, node.name]) expect(await hil.ask(nodeShow, { node: which })).toEqual(node);
    expect(JSON.stringify(node)).not.toContain('hunter2');
    const rows = await hil.kit.database.query<{ row: object }>('SELECT to_jsonb(nodes) AS row FROM nodes');
    expect(JSON.stringify(rows)).not.toContain('hunter2');
    expect(JSON.stringify(rows)).not.toContain(Buffer.from('hunter2').toString('hex'));
    expect(await hil.events(node.id)).toEqual(['hil.node.registered']);
  });

  it('is registered once for one effect, however often that comes', async () => {
    const input = {
      nodeId: uuidv7(),
      name: 'twice',
      nics: [{ label: 'eth0', mac: '52:54:00:ff:00:01' }],
      bmc: { address: 'h', user: 'a', password: 'b' },
    };
    const effect = `direct/${uuidv7()}`;
    const first = await hil.tell(nodeRegister, input, effect);
    expect(await hil.tell(nodeRegister, input, effect)).toEqual(first);
  });

  it('has a name and MACs of its own', async () => {
    const { name, nics } = await hil.register();
    const another = [{ label: 'eth0', mac: '52:54:00:ff:00:02' }];
    await expect(hil.register({ name })).rejects.toMatchObject({
      code: 'node.exists',
      detail: expect.stringContaining(name) as string,
    });
    await expect(hil.register({ nics: [...another, nics[0]!] })).rejects.toMatchObject({ code: 'node.exists' });
    await expect(
      hil.register({ nics: [...another, { label: 'eth0', mac: '52:54:00:ff:00:03' }] }),
    ).rejects.toMatchObject({ code: 'request.invalid' });
    const free = await hil.register({ nics: another });
    expect(free.nics).toEqual(another);
  });

  it('gets another BMC, and answers the same when it is told twice', async () => {
    const { id } = await hil.register();
    const bmc = { address: '192.0.2.250', user: 'root', password: 'other' };
    const effect = `direct/${uuidv7()}`;
    const changed = await hil.tell(nodeSetBmc, { nodeId: id, bmc }, effect);
    expect(changed.bmc).toEqual({
      driver: 'ipmi',
      address: '192.0.2.250',
      port: 623,
      user: 'root',
      cipherSuites: [17, 3],
    });
    expect(await hil.tell(nodeSetBmc, { nodeId: id, bmc }, effect)).toEqual(changed);
    expect(await hil.events(id)).toEqual(['hil.node.registered', 'hil.node.changed']);
    await expect(hil.tell(nodeSetBmc, { nodeId: uuidv7(), bmc })).rejects.toMatchObject({ code: 'node.not_found' });
  });

  it('that nobody holds is forgotten, with its nics', async () => {
    const { id, nics } = await hil.register();
    await hil.tell(nodeRemove, { nodeId: id });
    await expect(hil.ask(nodeShow, { node: id })).rejects.toMatchObject({ code: 'node.not_found' });
    await expect(hil.tell(nodeRemove, { nodeId: id })).rejects.toMatchObject({ code: 'node.not_found' });
    expect((await hil.register({ nics })).nics).toEqual(nics);
  });

  it('that somebody holds is not', async () => {
    const { node, holder } = await hil.held();
    await expect(hil.tell(nodeRemove, { nodeId: node.id })).rejects.toMatchObject({
      code: 'node.busy',
      detail: expect.stringContaining(holder) as string,
    });
    expect((await hil.ask(nodeShow, { node: node.id })).holder).toBe(holder);
  });
});

describe('a node that is marked broken', () => {
  const why = { by: 'olga', reason: 'its BMC is dead' };
  const broken = { ...why, since: expect.any(String) as string };

  it('is given to nobody until it is marked repaired, and who did both, and why, is told', async () => {
    const { id } = await hil.register();
    const input = { nodeId: id, project: uuidv7(), holder: uuidv7() };
    expect(await hil.tell(nodeMarkBroken, { nodeId: id, ...why })).toMatchObject({ id, broken });
    expect(await hil.ask(nodeShow, { node: id })).toMatchObject({ broken });
    expect((await hil.ask(nodeList, {})).items.find((node) => node.id === id)).toMatchObject({ broken });
    await expect(hil.tell(nodeReserve, input)).rejects.toMatchObject({
      code: 'node.broken',
      // Tenants read it; who decided, and why, is for operators.
      detail: expect.not.stringContaining('olga') as string,
    });
    const repaired = { by: 'otto', reason: 'it has a new board' };
    expect(await hil.tell(nodeMarkRepaired, { nodeId: id, ...repaired })).toMatchObject({ broken: null });
    expect(await hil.tell(nodeReserve, input)).toMatchObject({ holder: input.holder, broken: null });
    expect(await hil.events(id)).toEqual([
      'hil.node.registered',
      'hil.node.marked-broken',
      'hil.node.marked-repaired',
      'hil.node.reserved',
    ]);
    const told = await hil.kit.database.query<{ data: object; project: string | null }>(
      `SELECT data, project FROM m2_outbox WHERE entity = $1 AND type LIKE 'hil.node.marked-%' ORDER BY sequence`,
      [id],
    );
    expect(told.map(({ data }) => data)).toMatchObject([why, repaired]);
    expect(told.map(({ project }) => project)).toEqual([null, null]);
  });

  it('stays with who holds it until that gives it back, and may then be removed', async () => {
    const { node, holder, project } = await hil.held();
    await hil.tell(nodeMarkBroken, { nodeId: node.id, ...why });
    expect(await hil.tell(nodeReserve, { nodeId: node.id, project, holder })).toMatchObject({ holder, broken });
    await expect(hil.tell(nodeReserve, { nodeId: node.id, project, holder: uuidv7() })).rejects.toMatchObject({
      code: 'node.busy',
    });
    await hil.tell(nodeRelease, { nodeId: node.id, holder });
    expect(await hil.ask(nodeShow, { node: node.id })).toMatchObject({ holder: null, broken });
    await expect(hil.tell(nodeReserve, { nodeId: node.id, project, holder: uuidv7() })).rejects.toMatchObject({
      code: 'node.broken',
    });
    await hil.tell(nodeRemove, { nodeId: node.id });
  });

  it('that is not there is refused', async () => {
    for (const call of [nodeMarkBroken, nodeMarkRepaired])
      await expect(hil.tell(call, { nodeId: uuidv7(), ...why })).rejects.toMatchObject({ code: 'node.not_found' });
  });
});

describe('a project', () => {
  it('sees its own nodes and those of all, by name, in pages', async () => {
    const [mine, other] = [uuidv7(), uuidv7()];
    await hil.register({ name: 'z-mine', project: mine });
    await hil.register({ name: 'z-other', project: other });
    await hil.register({ name: 'z-shared' });
    const names: string[] = [];
    for (let cursor: string | undefined = 'y'; cursor !== undefined;) {
      const page: { items: { name: string }[]; next?: string | undefined } = await hil.ask(nodeList, {
        project: mine,
        cursor,
        limit: 1,
      });
      expect(page.items).toHaveLength(1);
      names.push(page.items[0]!.name);
      cursor = page.next;
    }
    expect(names).toEqual(['z-mine', 'z-shared']);
    expect((await hil.ask(nodeList, { cursor: 'y' })).items.map(({ name }) => name)).toEqual([
      'z-mine',
      'z-other',
      'z-shared',
    ]);
    await expect(hil.ask(nodeShow, { node: 'z-other', project: mine })).rejects.toMatchObject({
      code: 'node.not_found',
    });
  });

  it('cannot reserve the node of another', async () => {
    const { id } = await hil.register({ project: uuidv7() });
    const input = { nodeId: id, project: uuidv7(), holder: uuidv7() };
    await expect(hil.tell(nodeReserve, input)).rejects.toMatchObject({ code: 'node.not_found' });
  });
});

describe('a reservation', () => {
  it('goes to one of those who want it at the same time', async () => {
    const { id } = await hil.register();
    const wanting = Array.from({ length: 10 }, () => ({ nodeId: id, project: uuidv7(), holder: uuidv7() }));
    const outcomes = await Promise.allSettled(wanting.map((input) => hil.tell(nodeReserve, input)));
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(won).toHaveLength(1);
    for (const outcome of outcomes.filter(({ status }) => status === 'rejected'))
      expect((outcome as PromiseRejectedResult).reason).toMatchObject({ code: 'node.busy' });
    expect(await hil.ask(nodeShow, { node: id })).toMatchObject({
      holder: won[0]!.holder,
      holderProject: won[0]!.holderProject,
    });
    expect(await hil.events(id)).toEqual(['hil.node.registered', 'hil.node.reserved']);
  });

  it('may be asked for again by who has it, and is told of once', async () => {
    const { node, holder, project } = await hil.held();
    expect(await hil.tell(nodeReserve, { nodeId: node.id, project, holder })).toMatchObject({ holder });
    expect(await hil.events(node.id)).toEqual(['hil.node.registered', 'hil.node.reserved']);
  });

  it('is given back by who has it; by another, or twice, changes nothing', async () => {
    const { node, holder } = await hil.held();
    await hil.tell(nodeRelease, { nodeId: node.id, holder: uuidv7() });
    expect((await hil.ask(nodeShow, { node: node.id })).holder).toBe(holder);
    await hil.tell(nodeRelease, { nodeId: node.id, holder });
    await hil.tell(nodeRelease, { nodeId: node.id, holder });
    await hil.tell(nodeRelease, { nodeId: uuidv7(), holder });
    expect(await hil.ask(nodeShow, { node: node.id })).toMatchObject({ holder: null, holderProject: null });
    expect(await hil.events(node.id)).toEqual(['hil.node.registered', 'hil.node.reserved', 'hil.node.released']);
  });

  it('goes on to the next while the last one gives it back', async () => {
    const { node, holder } = await hil.held();
    const next = { nodeId: node.id, project: uuidv7(), holder: uuidv7() };
    const [, reserved] = await Promise.allSettled([
      hil.tell(nodeRelease, { nodeId: node.id, holder }),
      hil.tell(nodeReserve, next),
    ]);
    const now = (await hil.ask(nodeShow, { node: node.id })).holder;
    expect(now).toBe(reserved.status === 'fulfilled' ? next.holder : null);
  });

  it('of an operation that was taken over is refused', async () => {
    const { id } = await hil.register();
    const operation = uuidv7();
    const input = { nodeId: id, project: uuidv7(), holder: uuidv7() };
    await hil.tell(nodeRelease, { nodeId: id, holder: input.holder }, `${operation}/reserve-node/undo`, 5);
    await expect(hil.tell(nodeReserve, input, `${operation}/reserve-node/do`, 4)).rejects.toMatchObject({
      code: 'fence.stale',
    });
    expect((await hil.ask(nodeShow, { node: id })).holder).toBeNull();
  });
});
