import { networkAttach, networkDetach, nodeRelease } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openHil, type TestHil } from '../testing/hil.js';

let hil: TestHil;
beforeAll(async () => {
  hil = await openHil();
});
afterAll(() => hil?.close());
beforeEach(() => {
  hil.networks.calls.length = 0;
});

const told = async (id: string) => (await hil.events(id)).filter((type) => type.startsWith('hil.network.'));
const where = async (id: string) =>
  (
    await hil.kit.database.query<{ label: string; network: string | null }>(
      'SELECT label, network FROM nics WHERE node = $1 ORDER BY label',
      [id],
    )
  ).map(({ label, network }) => `${label} ${network}`);

describe('a nic', () => {
  it('is moved by who holds its node, alone', async () => {
    const { node, holder } = await hil.held();
    const nic = { nodeId: node.id, holder, nic: 'eth0', network: 'flat' };
    await hil.tell(networkAttach, nic);
    expect(await where(node.id)).toEqual(['eth0 flat', 'eth1 null']);
    await expect(hil.tell(networkAttach, { ...nic, holder: uuidv7() })).rejects.toMatchObject({ code: 'node.busy' });
    await hil.tell(networkDetach, { ...nic, holder: uuidv7() });
    expect(await where(node.id)).toEqual(['eth0 flat', 'eth1 null']);
    await hil.tell(networkDetach, nic);
    expect(await where(node.id)).toEqual(['eth0 null', 'eth1 null']);
    expect(hil.networks.calls).toEqual([`attach ${node.name} eth0 flat`, `detach ${node.name} eth0 flat`]);
    expect(await told(node.id)).toEqual(['hil.network.attached', 'hil.network.detached']);
  });

  it('may be attached and detached twice: the equipment is looked at, and it is told of once', async () => {
    const { node, holder } = await hil.held();
    const nic = { nodeId: node.id, holder, nic: 'eth0', network: 'flat' };
    await hil.tell(networkAttach, nic);
    await hil.tell(networkAttach, nic);
    await hil.tell(networkDetach, nic);
    await hil.tell(networkDetach, nic);
    expect(hil.networks.calls.filter((call) => call.startsWith('attach'))).toHaveLength(2);
    expect(await told(node.id)).toEqual(['hil.network.attached', 'hil.network.detached']);
  });

  it('is taken out of a network that it may be in, though that never got on record', async () => {
    // Attached at the equipment, and died before the row recorded it: the undo must not believe the row.
    const { node, holder } = await hil.held();
    await hil.tell(networkDetach, { nodeId: node.id, holder, nic: 'eth0', network: 'blue' });
    expect(hil.networks.calls).toEqual([`detach ${node.name} eth0 blue`]);
  });

  it('whose attach failed, as there is no such network, has nothing to leave', async () => {
    const { node, holder } = await hil.held();
    const nic = { nodeId: node.id, holder, nic: 'eth0', network: 'nowhere' };
    await expect(hil.tell(networkAttach, nic)).rejects.toMatchObject({ code: 'network.not_found' });
    expect(await hil.tell(networkDetach, nic)).toEqual({});
    expect(await told(node.id)).toEqual([]);
  });

  it('that the node does not have, and a network that is not there, are refused', async () => {
    const { node, holder } = await hil.held();
    const nic = { nodeId: node.id, holder, nic: 'eth0', network: 'flat' };
    for (const call of [networkAttach, networkDetach])
      await expect(hil.tell(call, { ...nic, nic: 'eth7' })).rejects.toMatchObject({ code: 'nic.not_found' });
    await expect(hil.tell(networkAttach, { ...nic, network: 'nowhere' })).rejects.toMatchObject({
      code: 'network.not_found',
    });
    expect(await where(node.id)).toEqual(['eth0 null', 'eth1 null']);
  });

  it('of a node that was released is nobody’s to move', async () => {
    const { node, holder } = await hil.held();
    const nic = { nodeId: node.id, holder, nic: 'eth0', network: 'flat' };
    await hil.tell(nodeRelease, { nodeId: node.id, holder });
    await hil.tell(networkDetach, nic);
    await expect(hil.tell(networkAttach, nic)).rejects.toMatchObject({ code: 'node.busy' });
    expect(hil.networks.calls).toEqual([]);
  });
});
