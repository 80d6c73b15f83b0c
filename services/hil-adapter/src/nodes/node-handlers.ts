import {
  M2Error,
  type Node,
  nodeChanged,
  nodeList,
  nodeMarkBroken,
  nodeMarkedBroken,
  nodeMarkedRepaired,
  nodeMarkRepaired,
  nodeRegister,
  nodeRegistered,
  nodeRelease,
  nodeReleased,
  nodeRemove,
  nodeRemoved,
  nodeReserve,
  nodeReserved,
  nodeSetBmc,
  nodeShow,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, Handles, violatesUnique } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { NodeStore } from './node-store.js';

/** Registers, changes, reserves and releases nodes. */
@Controller()
export class NodeHandlers {
  constructor(@Inject(NodeStore) private readonly nodes: NodeStore) {}

  @Answers(nodeShow)
  show({ node, project }: RequestOf<typeof nodeShow>): Promise<Node> {
    return this.nodes.find(node, project);
  }

  @Answers(nodeList)
  list(filter: RequestOf<typeof nodeList>) {
    return this.nodes.list(filter);
  }

  @Handles(nodeRegister)
  async register(node: RequestOf<typeof nodeRegister>, effect: Effect): Promise<Node> {
    const { password, ...bmc } = node.bmc;
    try {
      return await effect.commit(async (sql, emit) => {
        const [row] = await sql.query<{ createdAt: Date }>(
          `INSERT INTO nodes (id, name, project, firmware, bmc, bmc_password) VALUES ($1, $2, $3, $4, $5, $6)
           RETURNING created_at AS "createdAt"`,
          [
            node.nodeId,
            node.name,
            node.project,
            node.firmware,
            JSON.stringify(bmc),
            this.nodes.sealPassword(node.nodeId, password),
          ],
        );
        await sql.query(
          `INSERT INTO nics (node, label, mac, position)
           SELECT $1, label, mac, position FROM unnest($2::text[], $3::macaddr[]) WITH ORDINALITY AS n(label, mac, position)`,
          [node.nodeId, node.nics.map(({ label }) => label), node.nics.map(({ mac }) => mac)],
        );
        emit(nodeRegistered, { id: node.nodeId, name: node.name }, { entity: node.nodeId, project: node.project });
        return {
          id: node.nodeId,
          name: node.name,
          project: node.project,
          nics: node.nics,
          firmware: node.firmware,
          bmc,
          holder: null,
          holderProject: null,
          broken: null,
          createdAt: row!.createdAt.toISOString(),
        };
      });
    } catch (error) {
      if (violatesUnique(error, 'nodes_name'))
        throw new M2Error('node.exists', `There is a node "${node.name}" already`);
      if (violatesUnique(error, 'nics_mac'))
        throw new M2Error('node.exists', 'Another node has a nic with one of these MACs');
      if (violatesUnique(error, 'nics_pkey')) throw new M2Error('request.invalid', 'Two nics have the same label');
      throw error;
    }
  }

  @Handles(nodeSetBmc)
  async setBmc({ nodeId, bmc: { password, ...bmc } }: RequestOf<typeof nodeSetBmc>, effect: Effect): Promise<Node> {
    const before = await this.nodes.find(nodeId);
    return effect.commit(async (sql, emit) => {
      await sql.query('UPDATE nodes SET bmc = $2, bmc_password = $3 WHERE id = $1', [
        nodeId,
        JSON.stringify(bmc),
        this.nodes.sealPassword(nodeId, password),
      ]);
      emit(nodeChanged, { id: nodeId, name: before.name }, { entity: nodeId, project: before.project });
      return { ...before, bmc };
    });
  }

  @Handles(nodeRemove)
  remove({ nodeId }: RequestOf<typeof nodeRemove>, effect: Effect) {
    return effect.commit(async (sql, emit) => {
      const [gone] = await sql.query<{ name: string; project: string | null }>(
        'DELETE FROM nodes WHERE id = $1 AND holder IS NULL RETURNING name, project',
        [nodeId],
      );
      if (gone) emit(nodeRemoved, { id: nodeId, name: gone.name }, { entity: nodeId, project: gone.project });
      else await this.refuseHeld(nodeId);
      return {};
    });
  }

  private async refuseHeld(nodeId: string): Promise<void> {
    const { name, holder } = await this.nodes.find(nodeId);
    throw new M2Error('node.busy', `The node "${name}" is held by provision ${holder}`);
  }

  /** Who holds it goes on holding it: its disk is still to be taken from under it. */
  @Handles(nodeMarkBroken)
  markBroken({ nodeId, by, reason }: RequestOf<typeof nodeMarkBroken>, effect: Effect): Promise<Node> {
    return this.mark(nodeId, { by, reason, since: new Date().toISOString() }, { by, reason }, effect);
  }

  @Handles(nodeMarkRepaired)
  markRepaired({ nodeId, by, reason }: RequestOf<typeof nodeMarkRepaired>, effect: Effect): Promise<Node> {
    return this.mark(nodeId, null, { by, reason }, effect);
  }

  /** Each decision is told of with its reason, also one that changes nothing. */
  private async mark(
    nodeId: string,
    broken: Node['broken'],
    decision: { by: string; reason: string },
    effect: Effect,
  ): Promise<Node> {
    const before = await this.nodes.find(nodeId);
    return effect.commit(async (sql, emit) => {
      await sql.query('UPDATE nodes SET broken = $2 WHERE id = $1', [nodeId, broken && JSON.stringify(broken)]);
      const event = broken ? nodeMarkedBroken : nodeMarkedRepaired;
      emit(
        event,
        { id: nodeId, name: before.name, ...decision }, // Who decided, and why, is for operators.
        { entity: nodeId, project: null },
      );
      return { ...before, broken };
    });
  }

  /** The row is the lock: of two provisions, one updates it and the other finds it taken. */
  @Handles(nodeReserve)
  async reserve({ nodeId, project, holder }: RequestOf<typeof nodeReserve>, effect: Effect): Promise<Node> {
    const before = await this.nodes.find(nodeId, project);
    return effect.commit(async (sql, emit) => {
      const rows = await sql.query<{ was: string | null }>(
        `UPDATE nodes n SET holder = $2, holder_project = $3 FROM (SELECT id, holder AS was FROM nodes WHERE id = $1 FOR UPDATE) o
         WHERE n.id = o.id AND (o.was = $2 OR o.was IS NULL AND n.broken IS NULL) RETURNING was`,
        [nodeId, holder, project],
      );
      if (rows.length === 0) throw await this.refusal(nodeId);
      if (rows[0]!.was === null)
        emit(nodeReserved, { id: nodeId, name: before.name, project, holder }, { entity: nodeId, project });
      return { ...before, holder, holderProject: project };
    });
  }

  /** Read again: it was free and well when it was found. */
  private async refusal(nodeId: string): Promise<M2Error> {
    const { name, holder, broken } = await this.nodes.find(nodeId);
    return holder || !broken
      ? new M2Error('node.busy', `The node "${name}" is held by another provision`)
      : new M2Error('node.broken', `The node "${name}" is marked broken`);
  }

  @Handles(nodeRelease)
  release({ nodeId, holder }: RequestOf<typeof nodeRelease>, effect: Effect) {
    return effect.commit(async (sql, emit) => {
      const [gone] = await sql.query<{ name: string; project: string }>(
        `UPDATE nodes n SET holder = NULL, holder_project = NULL, power_effect = NULL
         FROM (SELECT id, holder_project AS project FROM nodes WHERE id = $1 FOR UPDATE) o
         WHERE n.id = o.id AND n.holder = $2 RETURNING n.name, o.project`,
        [nodeId, holder],
      );
      if (gone)
        emit(
          nodeReleased,
          { id: nodeId, name: gone.name, project: gone.project, holder },
          { entity: nodeId, project: gone.project },
        );
      return {};
    });
  }
}
