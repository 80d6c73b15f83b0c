import { type Call, type InputOf, nodeRegister, nodeReserve, type ReplyOf } from '@m2/contracts';
import type { ServiceDefinition } from '@m2/service-kit';
import { openTestEnvironment } from '@m2/service-kit/testing';
import { Module } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { hilConfig } from '../config.js';
import { DriverRegistry } from '../driver-registry.js';
import { hilMigrations } from '../migrations.js';
import { type Attachment, type NetworkDriver, NetworkError } from '../networks/network.port.js';
import { NETWORK_DRIVERS, NetworkHandlers } from '../networks/network-handlers.js';
import { NicEntity, NodeEntity } from '../nodes/node.entity.js';
import { NodeHandlers } from '../nodes/node-handlers.js';
import { NodeStore } from '../nodes/node-store.js';
import { POWER_DRIVERS, PowerHandlers } from '../power/power-handlers.js';
import {
  type BmcAddress,
  type BootCall,
  type PowerDriver,
  PowerError,
  type PowerErrorCode,
  type PowerState,
} from '../power/power.port.js';

/** BMCs that record their calls, and fail when a test says so. */
export class RecordedPower implements PowerDriver {
  readonly calls: string[] = [];
  readonly bmcs: BmcAddress[] = [];
  readonly on = new Set<string>();
  /** The next call to this method fails; with `afterwards`, after it has done its work. */
  failing: { method: string; code: PowerErrorCode; afterwards?: boolean } | undefined;

  async state(bmc: BmcAddress): Promise<PowerState> {
    this.begin('state', bmc);
    return this.on.has(bmc.address) ? 'on' : 'off';
  }

  async bootFromNetwork(bmc: BmcAddress, call: BootCall): Promise<void> {
    this.begin('boot', bmc);
    this.on.delete(bmc.address);
    await call.whenOff?.();
    this.on.add(bmc.address);
    this.end('boot');
  }

  async ensureOff(bmc: BmcAddress): Promise<void> {
    this.begin('off', bmc);
    this.on.delete(bmc.address);
    this.end('off');
  }

  async close(): Promise<void> {}

  private begin(method: string, bmc: BmcAddress): void {
    this.calls.push(`${method} ${bmc.address}`);
    this.bmcs.push(bmc);
    if (this.failing?.method === method && !this.failing.afterwards) this.fail();
  }

  private end(method: string): void {
    if (this.failing?.method === method) this.fail();
  }

  private fail(): never {
    const { code } = this.failing!;
    this.failing = undefined;
    throw new PowerError(code, 'as the test says');
  }
}

/** Equipment with the networks `flat` and `blue`. */
export class RecordedNetworks implements NetworkDriver {
  readonly isolates = true;
  readonly calls: string[] = [];

  async ensureAttached(attachment: Attachment): Promise<void> {
    this.record('attach', attachment);
  }

  async ensureDetached(attachment: Attachment): Promise<void> {
    this.record('detach', attachment);
  }

  async observe(): Promise<'attached'> {
    return 'attached';
  }

  private record(what: string, { node, nic, network }: Attachment): void {
    if (!['flat', 'blue'].includes(network)) throw new NetworkError('network.not_found', `There is no ${network}`);
    this.calls.push(`${what} ${node} ${nic} ${network}`);
  }
}

/** hil-adapter with a real PostgreSQL and NATS, its handlers, and equipment that records its calls. */
export async function openHil() {
  const env = await openTestEnvironment();
  const power = new RecordedPower();
  const networks = new RecordedNetworks();

  @Module({
    controllers: [NodeHandlers, PowerHandlers, NetworkHandlers],
    providers: [
      NodeStore,
      { provide: POWER_DRIVERS, useValue: new DriverRegistry('BMCs', { ipmi: power }) },
      { provide: NETWORK_DRIVERS, useValue: new DriverRegistry('switches', { flat: networks }) },
    ],
  })
  class RecordedModule {}
  const definition: ServiceDefinition<typeof hilConfig> = {
    name: 'hil',
    config: hilConfig,
    module: RecordedModule,
    migrations: hilMigrations,
    entities: [NodeEntity, NicEntity],
  };
  const { kit } = await env.run(definition);
  const bus = await env.bus();
  const tell = <C extends Call>(
    call: C,
    input: InputOf<C>,
    effect = `${uuidv7()}/step/do`,
    fence = 1,
  ): Promise<ReplyOf<C>> => bus.request(call, input, { deadlineMs: 10_000, effect, fence });
  let count = 0;
  return {
    kit,
    power,
    networks,
    tell,
    ask: <C extends Call>(call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
      bus.request(call, input, { deadlineMs: 10_000 }),
    /** Registers a node with two nics and a BMC at an address of its own. */
    register(more: object = {}) {
      const at = (count += 1);
      const mac = (nic: number) => `52:54:00:00:${String(at).padStart(2, '0')}:0${nic}`;
      const nics = [
        { label: 'eth1', mac: mac(1) },
        { label: 'eth0', mac: mac(0) },
      ];
      const bmc = { address: `192.0.2.${at}`, user: 'admin', password: 'hunter2' };
      return tell(nodeRegister, { nodeId: uuidv7(), name: `node-${at}`, nics, bmc, ...more });
    },
    async held(project = uuidv7()) {
      const node = await this.register();
      const holder = uuidv7();
      await tell(nodeReserve, { nodeId: node.id, project, holder });
      return { node, holder, project };
    },
    /** The recorded events of an entity, in order. */
    async events(entity: string) {
      const rows = await kit.database.query<{ type: string }>(
        'SELECT type FROM m2_outbox WHERE entity = $1 ORDER BY sequence',
        [entity],
      );
      return rows.map(({ type }) => type);
    },
    close: () => env.close(),
  };
}
export type TestHil = Awaited<ReturnType<typeof openHil>>;
