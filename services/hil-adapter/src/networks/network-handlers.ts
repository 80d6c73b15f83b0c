import { M2Error, networkAttach, networkAttached, networkDetach, networkDetached, type RequestOf } from '@m2/contracts';
import { type Effect, Handles, type Sql } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { type NodeRow, NodeStore } from '../nodes/node-store.js';
import type { DriverRegistry } from '../driver-registry.js';
import type { NetworkDriver, SwitchKind } from './network.port.js';

export const NETWORK_DRIVERS = Symbol('network drivers');
export type NetworkDrivers = DriverRegistry<SwitchKind, NetworkDriver>;

/** The port and the switch of a nic are not recorded yet: every nic is in the one flat network. */
const switchKind: SwitchKind = 'flat';

interface NicRow {
  mac: string;
  network: string | null;
}

type Request = RequestOf<typeof networkAttach>;

/** Attaches and detaches nics of reserved nodes. */
@Controller()
export class NetworkHandlers {
  private readonly networks: NetworkDriver;

  constructor(
    @Inject(NodeStore) private readonly nodes: NodeStore,
    @Inject(NETWORK_DRIVERS) drivers: NetworkDrivers,
  ) {
    this.networks = drivers.of(switchKind);
  }

  @Handles(networkAttach)
  async attach(request: Request, effect: Effect) {
    const { row, nic } = await this.find(effect, request);
    if (row.holder !== request.holder)
      throw new M2Error('node.busy', `The node "${row.name}" is not held by provision ${request.holder}`);
    await this.networks.ensureAttached({ node: row.name, nic: request.nic, mac: nic.mac, network: request.network });
    return effect.commit(async (sql, emit) => {
      await this.record(sql, request, request.network);
      if (nic.network !== request.network)
        emit(networkAttached, this.eventOf(row, request), { entity: row.id, project: row.holderProject });
      return {};
    });
  }

  @Handles(networkDetach)
  async detach(request: Request, effect: Effect) {
    // A node that is not known any more is in no network of ours.
    if (!(await this.nodes.rowIfAny(effect, request.nodeId))) return effect.commit(async () => ({}));
    const { row, nic } = await this.find(effect, request);
    const ours = row.holder === request.holder;
    if (ours) await this.leave(row, nic, request);
    return effect.commit(async (sql, emit) => {
      if (!ours || nic.network === null) return {};
      await this.record(sql, request, null);
      emit(networkDetached, this.eventOf(row, request), { entity: row.id, project: row.holderProject });
      return {};
    });
  }

  /** The equipment, not the row, says whether the nic is in: an attach that died before its commit left no row. */
  private async leave(
    { name: node }: NodeRow,
    { mac, network }: NicRow,
    { nic, network: given }: Request,
  ): Promise<void> {
    try {
      await this.networks.ensureDetached({ node, nic, mac, network: network ?? given });
    } catch (error) {
      // Nothing was ever attached to a network that does not exist: its attach failed for that reason.
      if (network !== null || M2Error.from(error).code !== 'network.not_found') throw error;
    }
  }

  private async record(
    sql: Parameters<Parameters<Effect['commit']>[0]>[0],
    { nodeId, nic }: Request,
    network: string | null,
  ) {
    await sql.query('UPDATE nics SET network = $3 WHERE node = $1 AND label = $2', [nodeId, nic, network]);
  }

  private async find(sql: Sql, { nodeId, nic: label }: Request): Promise<{ row: NodeRow; nic: NicRow }> {
    const row = await this.nodes.row(sql, nodeId);
    const [nic] = await sql.query<NicRow & Record<string, unknown>>(
      'SELECT mac, network FROM nics WHERE node = $1 AND label = $2',
      [nodeId, label],
    );
    if (!nic) throw new M2Error('nic.not_found', `The node "${row.name}" has no nic "${label}"`);
    return { row, nic };
  }

  private eventOf(row: NodeRow, { holder, nic, network }: Request) {
    return { id: row.id, name: row.name, project: row.holderProject!, holder, nic, network };
  }
}
