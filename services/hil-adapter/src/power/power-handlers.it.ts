import { nodeMarkBroken, nodeRelease, powerBoot, powerOff, powerShow } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openHil, type TestHil } from '../testing/hil.js';
import type { PowerErrorCode } from './power.port.js';

let hil: TestHil;
beforeAll(async () => {
  hil = await openHil();
});
afterAll(() => hil?.close());
beforeEach(() => {
  hil.power.calls.length = 0;
  hil.power.failing = undefined;
});

const key = () => `${uuidv7()}/power-on/do`;
const told = async (id: string) => (await hil.events(id)).filter((type) => type.startsWith('hil.power.'));

describe('a node whose BMC needs a driver that is not here', () => {
  it('is left alone, and the error says which drivers there are', async () => {
    const { node, holder } = await hil.held();
    await hil.kit.database.query(`UPDATE nodes SET bmc = bmc || '{"driver": "redfish"}' WHERE id = $1`, [node.id]);
    const refusal = { code: 'driver.unknown', detail: 'There is no driver "redfish" for BMCs. There are: ipmi' };
    await expect(hil.ask(powerShow, { nodeId: node.id })).rejects.toMatchObject(refusal);
    await expect(hil.tell(powerBoot, { nodeId: node.id, holder })).rejects.toMatchObject(refusal);
    await expect(hil.tell(powerOff, { nodeId: node.id, holder })).rejects.toMatchObject(refusal);
    expect(hil.power.calls).toEqual([]);
  });
});

describe('powering a node on', () => {
  it('is for who holds it, and speaks to its BMC with its password', async () => {
    const { node, holder } = await hil.held();
    await hil.tell(powerBoot, { nodeId: node.id, holder });
    expect(hil.power.calls).toEqual([`boot ${node.bmc.address}`]);
    expect(hil.power.bmcs.at(-1)).toMatchObject({ user: 'admin', password: 'hunter2' });
    expect(await told(node.id)).toEqual(['hil.power.on']);
    await expect(hil.tell(powerBoot, { nodeId: node.id, holder: uuidv7() })).rejects.toMatchObject({
      code: 'node.busy',
    });
    await expect(hil.tell(powerBoot, { nodeId: uuidv7(), holder })).rejects.toMatchObject({ code: 'node.not_found' });
    expect(hil.power.calls).toHaveLength(1);
  });

  it('is done once for one effect: a repetition does not boot a node that is booting', async () => {
    const { node, holder } = await hil.held();
    const effect = key();
    await hil.tell(powerBoot, { nodeId: node.id, holder }, effect);
    await hil.tell(powerBoot, { nodeId: node.id, holder }, effect);
    expect(hil.power.calls).toEqual([`boot ${node.bmc.address}`]);
  });

  it('that was done, and died before it was recorded, is recognised by its repetition', async () => {
    const { node, holder } = await hil.held();
    const effect = key();
    hil.power.failing = { method: 'boot', code: 'service.unavailable', afterwards: true };
    await expect(hil.tell(powerBoot, { nodeId: node.id, holder }, effect)).rejects.toMatchObject({
      code: 'service.unavailable',
    });
    await hil.tell(powerBoot, { nodeId: node.id, holder }, effect);
    expect(hil.power.calls).toEqual([`boot ${node.bmc.address}`, `state ${node.bmc.address}`]);
    expect(await told(node.id)).toEqual(['hil.power.on']);
  });

  it('that was begun and left the node off is begun again', async () => {
    const { node, holder } = await hil.held();
    const effect = key();
    hil.power.failing = { method: 'boot', code: 'bmc.timeout', afterwards: true };
    await expect(hil.tell(powerBoot, { nodeId: node.id, holder }, effect)).rejects.toMatchObject({
      code: 'bmc.timeout',
    });
    hil.power.on.delete(node.bmc.address);
    await hil.tell(powerBoot, { nodeId: node.id, holder }, effect);
    expect(hil.power.calls.filter((call) => call.startsWith('boot'))).toHaveLength(2);
  });

  it('under another effect boots a node that is on: it runs what its last tenant left', async () => {
    const { node, holder } = await hil.held();
    await hil.tell(powerBoot, { nodeId: node.id, holder });
    await hil.tell(powerBoot, { nodeId: node.id, holder });
    expect(hil.power.calls).toEqual([`boot ${node.bmc.address}`, `boot ${node.bmc.address}`]);
  });

  it.each(['bmc.unreachable', 'bmc.auth_failed'] as PowerErrorCode[])(
    'at a BMC that answers %s touched nothing, unless the power-on was under way by then',
    async (code) => {
      const { node, holder } = await hil.held();
      const effect = key();
      hil.power.failing = { method: 'boot', code };
      await expect(hil.tell(powerBoot, { nodeId: node.id, holder }, effect)).rejects.toMatchObject({
        code,
        untouched: true,
      });
      hil.power.failing = { method: 'boot', code, afterwards: true };
      await expect(hil.tell(powerBoot, { nodeId: node.id, holder }, effect)).rejects.toMatchObject({
        untouched: false,
      });
      // The next call cannot tell either.
      hil.power.failing = { method: 'state', code };
      await expect(hil.tell(powerBoot, { nodeId: node.id, holder }, effect)).rejects.toMatchObject({
        untouched: false,
      });
      expect(await told(node.id)).toEqual([]);
    },
  );
});

describe('powering a node off', () => {
  it('is for who holds it; for another there is nothing to do', async () => {
    const { node, holder } = await hil.held();
    await hil.tell(powerBoot, { nodeId: node.id, holder });
    await hil.tell(powerOff, { nodeId: node.id, holder: uuidv7() });
    expect(hil.power.on.has(node.bmc.address)).toBe(true);
    await hil.tell(powerOff, { nodeId: node.id, holder });
    expect(hil.power.on.has(node.bmc.address)).toBe(false);
    await hil.tell(nodeRelease, { nodeId: node.id, holder });
    await hil.tell(powerOff, { nodeId: node.id, holder });
    expect(await told(node.id)).toEqual(['hil.power.on', 'hil.power.off']);
    expect(hil.power.calls).toEqual([`boot ${node.bmc.address}`, `off ${node.bmc.address}`]);
  });

  it('that fails is told with the BMC’s own error', async () => {
    const { node, holder } = await hil.held();
    hil.power.failing = { method: 'off', code: 'bmc.ignored_command' };
    await expect(hil.tell(powerOff, { nodeId: node.id, holder })).rejects.toMatchObject({
      code: 'bmc.ignored_command',
    });
    expect(await told(node.id)).toEqual([]);
  });
});

describe('a node that is marked broken', () => {
  it('is not powered on, and is powered off as any other', async () => {
    const { node, holder } = await hil.held();
    await hil.tell(powerBoot, { nodeId: node.id, holder });
    await hil.tell(nodeMarkBroken, { nodeId: node.id, by: 'olga', reason: 'its BMC is dead' });
    hil.power.calls.length = 0;
    await expect(hil.tell(powerBoot, { nodeId: node.id, holder })).rejects.toMatchObject({ code: 'node.broken' });
    hil.power.failing = { method: 'off', code: 'bmc.ignored_command' };
    await expect(hil.tell(powerOff, { nodeId: node.id, holder })).rejects.toMatchObject({
      code: 'bmc.ignored_command',
    });
    hil.power.failing = undefined;
    await hil.tell(powerOff, { nodeId: node.id, holder });
    expect(await told(node.id)).toEqual(['hil.power.on', 'hil.power.off']);
  });
});

it('the power of a node is asked of its BMC, whoever holds it', async () => {
  const { id, bmc } = await hil.register();
  expect(await hil.ask(powerShow, { nodeId: id })).toEqual({ power: 'off' });
  hil.power.on.add(bmc.address);
  expect(await hil.ask(powerShow, { nodeId: id })).toEqual({ power: 'on' });
  hil.power.failing = { method: 'state', code: 'bmc.unreachable' };
  await expect(hil.ask(powerShow, { nodeId: id })).rejects.toMatchObject({ code: 'bmc.unreachable' });
});
