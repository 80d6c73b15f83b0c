import {
  type BootConfig,
  bootConfigCreate,
  bootConfigDelete,
  bootConfigShow,
  type Call,
  exportCreate,
  exportDelete,
  exportList,
  type Image,
  M2Error,
  networkAttach,
  networkDetach,
  type Node,
  nodeList,
  nodeMarkBroken,
  nodeMarkRepaired,
  nodeRegister,
  nodeRelease,
  nodeRemove,
  nodeReserve,
  nodeSetBmc,
  nodeShow,
  powerBoot,
  powerOff,
  powerShow,
} from '@m2/contracts';
import type { Bus } from '@m2/service-kit';
import { answer } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';
import { StorageStandIn } from './storage-stand-in.js';

/** What the gateway asked for: who got it, for which project, under which effect key. */
export interface Asked {
  subject: string;
  project: string | undefined;
  effect: string | undefined;
  request: unknown;
}

/**
 * The four services, in memory: they answer, keep to their project as the real ones do, and do nothing. `hold` makes a command wait,
 * `fail` makes it fail once.
 */
export class StandIns {
  readonly storage: StorageStandIn;
  readonly images: StorageStandIn['images'];
  readonly disks: StorageStandIn['disks'];
  readonly nodes = new Map<string, Node>();
  readonly boots = new Map<string, BootConfig>();
  readonly asked: Asked[] = [];
  private readonly held = new Map<string, Promise<void>>();
  private readonly failures = new Map<string, M2Error>();

  constructor(private readonly bus: Bus) {
    this.storage = new StorageStandIn((call, reply) => this.on(call, reply));
    this.images = this.storage.images;
    this.disks = this.storage.disks;
    this.standInForNodes();
    this.standInForTheRest();
  }

  /** Commands of this kind wait until the function that this answers is called. */
  hold(call: Call): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.held.set(call.subject, promise);
    return () => {
      this.held.delete(call.subject);
      resolve();
    };
  }

  fail(call: Call, error: M2Error): void {
    this.failures.set(call.subject, error);
  }

  addNode(name: string, project: string | null = null): Node {
    const id = uuidv7();
    const bmc = { driver: 'ipmi' as const, address: '192.0.2.7', port: 623, user: 'admin', cipherSuites: [17] };
    const mac = `52:54:00:${id.slice(-6).replaceAll(/(..)(?=.)/g, '$1:')}`;
    const free = { holder: null, holderProject: null, broken: null, createdAt: new Date().toISOString() };
    const node: Node = { id, name, project, nics: [{ label: 'eth0', mac }], firmware: 'bios', bmc, ...free };
    this.nodes.set(id, node);
    return node;
  }

  addImage(name: string, project: string, more: Partial<Image> = {}): Image {
    return this.storage.addImage(name, project, more);
  }

  private on<C extends Call>(call: C, reply: Parameters<typeof answer<C>>[2]): void {
    answer(this.bus, call, (async (request: { project?: string }, effect: string | undefined) => {
      this.asked.push({ subject: call.subject, project: request.project, effect, request });
      await this.held.get(call.subject);
      const failure = this.failures.get(call.subject);
      this.failures.delete(call.subject);
      if (failure) throw failure;
      return reply(request as never, effect);
    }) as never);
  }

  private standInForNodes(): void {
    const visible = (node: Node, project: string | undefined) =>
      project === undefined || node.project === null || node.project === project;
    const find = (which: string, project?: string) => {
      const node = [...this.nodes.values()].find(({ id, name }) => id === which || name === which);
      if (!node || !visible(node, project)) throw new M2Error('node.not_found', `There is no node ${which}`);
      return node;
    };
    const change = (id: string, to: Partial<Node>) => {
      const node = { ...find(id), ...to };
      this.nodes.set(id, node);
      return node;
    };
    this.on(nodeShow, ({ node, project }) => find(node, project));
    this.on(nodeList, ({ project, own }) => ({
      items: [...this.nodes.values()].filter((node) => visible(node, project) && (!own || node.project !== null)),
    }));
    this.on(nodeRegister, ({ name, project }) => this.addNode(name, project));
    this.on(nodeSetBmc, ({ nodeId }) => find(nodeId));
    this.on(nodeRemove, ({ nodeId }) => {
      this.nodes.delete(nodeId);
      return {};
    });
    this.on(nodeMarkBroken, ({ nodeId, by, reason }) =>
      change(nodeId, { broken: { by, reason, since: new Date().toISOString() } }),
    );
    this.on(nodeMarkRepaired, ({ nodeId }) => change(nodeId, { broken: null }));
    this.on(nodeReserve, ({ nodeId, holder, project }) => change(nodeId, { holder, holderProject: project }));
    this.on(nodeRelease, ({ nodeId }) => {
      change(nodeId, { holder: null, holderProject: null });
      return {};
    });
    this.on(powerShow, () => ({ power: 'on' }));
    for (const call of [networkAttach, networkDetach, powerBoot, powerOff]) this.on(call, () => ({}));
  }

  private standInForTheRest(): void {
    const portals = [{ address: '127.0.0.1', port: 3260 }];
    this.on(exportCreate, ({ exportId, project, disk, volume, initiator }) => {
      const iqn = `iqn.2018-10.io.m2:${volume}`;
      const createdAt = new Date().toISOString();
      return { id: exportId, project, disk, iqn, lun: 1, initiator, portals, state: 'ready', createdAt };
    });
    this.on(exportDelete, () => ({}));
    this.on(exportList, () => ({ items: [] }));
    this.on(bootConfigCreate, ({ configId: id, project, provision, node, mac, exportId }) => {
      const at = { createdAt: new Date().toISOString(), scriptServedAt: null, bootedAt: null, report: null };
      const config: BootConfig = { id, project, provision, node, mac, exportId, state: 'armed', ...at };
      this.boots.set(id, config);
      return config;
    });
    this.on(bootConfigDelete, ({ configId }) => {
      this.boots.delete(configId);
      return {};
    });
    this.on(bootConfigShow, ({ configId }) => {
      const config = this.boots.get(configId);
      if (!config) throw new M2Error('boot.config_not_found', `There is no ${configId}`);
      return config;
    });
  }
}
