import { M2Error, powerBoot, powerOff, powerShow, powerTurnedOff, powerTurnedOn, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { type HeldNode, NodeStore } from '../nodes/node-store.js';
import type { DriverRegistry } from '../driver-registry.js';
import type { BmcAddress, PowerDriver, PowerState } from './power.port.js';

export const POWER_DRIVERS = Symbol('power drivers');
export type PowerDrivers = DriverRegistry<BmcAddress['driver'], PowerDriver>;

/** A BMC that needs longer than this to say whether the node is on is broken. */
const showMs = 8_000;

/** Powers the nodes of those who hold them. */
@Injectable()
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
   * A node is booted once for one effect, whatever dies in between: that it was seen off goes on record before the power-on. Who
   * repeats the effect and finds the node on knows that the power-on was its own; without the record, it would have to cycle a node that
   * may be in the middle of its boot.
   */
  @Handles(powerBoot)
  async boot({ nodeId, holder }: RequestOf<typeof powerBoot>, effect: Effect) {
    const row = await this.nodes.row(effect, nodeId);
    if (row.holder !== holder)
      throw new M2Error('node.busy', `The node "${row.name}" is not held by provision ${holder}`);
    if (row.broken) throw new M2Error('node.broken', `The node "${row.name}" is marked broken: ${row.broken.reason}`);
    const begun = row.power_effect === effect.key;
    const isOurs = begun && (await this.look(row, effect)) === 'on';
    if (!isOurs) await this.bootNow(row, effect);
    return effect.commit(async (_sql, emit) => {
      emit(powerTurnedOn, eventOf(row, holder), { entity: nodeId, project: row.holder_project });
      return {};
    });
  }

  private async bootNow(row: HeldNode, effect: Effect): Promise<void> {
    let begun = false;
    try {
      await this.driverOf(row).bootFromNetwork(this.nodes.bmcOf(row), {
        deadlineMs: effect.remainingMs,
        firmware: row.firmware,
        whenOff: async () => {
          begun = true;
          await effect.query('UPDATE nodes SET power_effect = $2 WHERE id = $1', [row.id, effect.key]);
        },
      });
    } catch (error) {
      throw named(row, begun ? mayBeOn(error) : error);
    }
  }

  private async look(row: HeldNode, effect: Effect): Promise<PowerState> {
    try {
      return await this.driverOf(row).state(this.nodes.bmcOf(row), { deadlineMs: effect.remainingMs });
    } catch (error) {
      throw named(row, mayBeOn(error));
    }
  }

  /**
   * A node that the provision does not hold is not its to power off, so there is nothing to do. A node that a person marked broken is not
   * asked: its BMC may be what broke, and that it may still be on was told to who marked it.
   */
  @Handles(powerOff)
  async off({ nodeId, holder }: RequestOf<typeof powerOff>, effect: Effect) {
    const row = await this.nodes.row(effect, nodeId);
    const asked = row.holder === holder && !row.broken;
    if (asked)
      await this.driverOf(row)
        .ensureOff(this.nodes.bmcOf(row), { deadlineMs: effect.remainingMs })
        .catch((error: unknown) => {
          throw named(row, error);
        });
    return effect.commit(async (sql, emit) => {
      if (!asked) return {};
      await sql.query('UPDATE nodes SET power_effect = NULL WHERE id = $1', [nodeId]);
      emit(powerTurnedOff, eventOf(row, holder), { entity: nodeId, project: row.holder_project });
      return {};
    });
  }

  private driverOf({ bmc }: HeldNode): PowerDriver {
    return this.drivers.of(bmc.driver);
  }
}

/** A BMC that was lost after the power-on was begun is not one that was never reached: the node may be on, and is to be powered off. */
function mayBeOn(error: unknown): M2Error {
  const failure = M2Error.from(error);
  return failure.untouched ? new M2Error('bmc.timeout', failure.detail, failure.about, { cause: error }) : failure;
}

/** Tenants read what became of their operations: they know the node by its name, and are not told where its BMC is. */
function named(row: HeldNode, error: unknown): M2Error {
  const { code, detail, about } = M2Error.from(error);
  const { address, port } = row.bmc;
  const hidden = detail
    .replaceAll(`at ${address} port ${port}`, `of node "${row.name}"`)
    .replaceAll(address, 'its BMC');
  return new M2Error(code, hidden, about, { cause: error });
}

const eventOf = (row: HeldNode, holder: string) => ({
  id: row.id,
  name: row.name,
  project: row.holder_project!,
  holder,
});
