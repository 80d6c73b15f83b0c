import { M2Error, powerBoot, powerOff, powerShow, powerTurnedOff, powerTurnedOn, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { type NodeRow, NodeStore } from '../nodes/node-store.js';
import type { DriverRegistry } from '../driver-registry.js';
import type { BmcAddress, PowerDriver, PowerState } from './power.port.js';

export const POWER_DRIVERS = Symbol('power drivers');
export type PowerDrivers = DriverRegistry<BmcAddress['driver'], PowerDriver>;

/** A BMC that needs longer than this to say whether the node is on is broken. */
const showMs = 8_000;

/** Powers reserved nodes. */
@Controller()
export class PowerHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(NodeStore) private readonly nodes: NodeStore,
    @Inject(POWER_DRIVERS) private readonly drivers: PowerDrivers,
  ) {}

  @Answers(powerShow)
  async show({ nodeId }: RequestOf<typeof powerShow>) {
    const row = await this.nodes.row(this.kit.database, nodeId);
    return { power: await this.driverOf(row).state(this.nodes.bmcOf(row), { deadlineMs: showMs }) };
  }

  /**
   * Boots a node once per effect, even after a crash at any point: before the power-on, the row records that the node was seen off. A
   * repeated effect that finds the node on knows then that it was powered on by this effect. Without the record it would have to
   * power-cycle a node that may be booting.
   */
  @Handles(powerBoot)
  async boot({ nodeId, holder }: RequestOf<typeof powerBoot>, effect: Effect) {
    const row = await this.nodes.row(effect, nodeId);
    if (row.holder !== holder)
      throw new M2Error('node.busy', `The node "${row.name}" is not held by provision ${holder}`);
    if (row.broken) throw new M2Error('node.broken', `The node "${row.name}" is marked broken`);
    const begun = row.powerEffect === effect.key;
    const isOurs = begun && (await this.look(row, effect)) === 'on';
    if (!isOurs) await this.bootNow(row, effect);
    return effect.commit(async (_sql, emit) => {
      emit(powerTurnedOn, eventOf(row, holder), { entity: nodeId, project: row.holderProject });
      return {};
    });
  }

  private async bootNow(row: NodeRow, effect: Effect): Promise<void> {
    let begun = false;
    try {
      await this.driverOf(row).bootFromNetwork(this.nodes.bmcOf(row), {
        ...limitsOf(effect),
        firmware: row.firmware,
        whenOff: async () => {
          begun = true;
          await effect.transaction((sql) =>
            sql.query('UPDATE nodes SET power_effect = $2 WHERE id = $1', [row.id, effect.key]),
          );
        },
      });
    } catch (error) {
      throw named(row, begun ? mayBeOn(error) : error);
    }
  }

  private async look(row: NodeRow, effect: Effect): Promise<PowerState> {
    try {
      return await this.driverOf(row).state(this.nodes.bmcOf(row), limitsOf(effect));
    } catch (error) {
      throw named(row, mayBeOn(error));
    }
  }

  /**
   * A provision must not power off a node that it does not hold, or that is not known any more: there is nothing to do. A node that is
   * marked broken is powered off as any other: its disk is taken from it next. Only a person leaves that out, in the operation itself.
   */
  @Handles(powerOff)
  async off({ nodeId, holder }: RequestOf<typeof powerOff>, effect: Effect) {
    const row = await this.nodes.rowIfAny(effect, nodeId);
    if (row?.holder !== holder) return effect.commit(async () => ({}));
    await this.driverOf(row)
      .ensureOff(this.nodes.bmcOf(row), limitsOf(effect))
      .catch((error: unknown) => {
        throw named(row, error);
      });
    return effect.commit(async (sql, emit) => {
      await sql.query('UPDATE nodes SET power_effect = NULL WHERE id = $1', [nodeId]);
      emit(powerTurnedOff, eventOf(row, holder), { entity: nodeId, project: row.holderProject });
      return {};
    });
  }

  private driverOf({ bmc }: NodeRow): PowerDriver {
    return this.drivers.of(bmc.driver);
  }
}

const limitsOf = ({ remainingMs, signal }: Effect) => ({ deadlineMs: remainingMs, signal });

/** A BMC that was lost after the power-on had begun was reached: the node may be on, and has to be powered off. */
function mayBeOn(error: unknown): M2Error {
  const failure = M2Error.from(error);
  return failure.untouched ? new M2Error('bmc.timeout', failure.detail, failure.about, { cause: error }) : failure;
}

/** Tenants read the errors of their operations. They know the node by its name, and must not learn where its BMC is. */
function named(row: NodeRow, error: unknown): M2Error {
  const { code, detail, about } = M2Error.from(error);
  const { address, port } = row.bmc;
  const hidden = detail
    .replaceAll(`at ${address} port ${port}`, `of node "${row.name}"`)
    .replaceAll(address, 'its BMC');
  return new M2Error(code, hidden, about, { cause: error });
}

const eventOf = (row: NodeRow, holder: string) => ({
  id: row.id,
  name: row.name,
  project: row.holderProject!,
  holder,
});
