import {
  type BootConfig,
  bootConfigCreate,
  bootConfigDelete,
  bootConfigShow,
  type Call,
  type Disk,
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  diskList,
  diskShow,
  exportCreate,
  exportDelete,
  exportList,
  type Image,
  imageDelete,
  imageImport,
  imageList,
  imageShow,
  M2Error,
  networkAttach,
  networkDetach,
  type Node,
  nodeList,
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

/** What the gateway asked for: who got it, for which project, under which effect key. */
export interface Asked {
  subject: string;
  project: string | undefined;
  effect: string | undefined;
}

/**
 * The four services, in memory: they answer, keep to their project as the real ones do, and do nothing. `hold` makes a command wait,
 * `fail` makes it fail once.
 */
export class StandIns {
  readonly images = new Map<string, Image>();
  readonly disks = new Map<string, Disk>();
  readonly nodes = new Map<string, Node>();
  readonly boots = new Map<string, BootConfig>();
  readonly asked: Asked[] = [];
  private readonly held = new Map<string, Promise<void>>();
  private readonly failures = new Map<string, M2Error>();

  constructor(private readonly bus: Bus) {
    this.standInForImages();
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
    const free = { holder: null, holderProject: null, createdAt: new Date().toISOString() };
    const node: Node = { id, name, project, nics: [{ label: 'eth0', mac }], firmware: 'bios', bmc, ...free };
    this.nodes.set(id, node);
    return node;
  }

  addImage(name: string, project: string): Image {
    const nothing = { sha256: null, progress: null, error: null, createdAt: new Date().toISOString() };
    const image: Image = { id: uuidv7(), project, name, state: 'ready', format: 'raw', sizeBytes: 512, ...nothing };
    this.images.set(image.id, image);
    return image;
  }

  private on<C extends Call>(call: C, reply: Parameters<typeof answer<C>>[2]): void {
    answer(this.bus, call, (async (request: { project?: string }, effect: string | undefined) => {
      this.asked.push({ subject: call.subject, project: request.project, effect });
      await this.held.get(call.subject);
      const failure = this.failures.get(call.subject);
      this.failures.delete(call.subject);
      if (failure) throw failure;
      return reply(request as never, effect);
    }) as never);
  }

  private standInForImages(): void {
    const one = <T extends { id: string; name: string; project: string }>(
      things: Map<string, T>,
      which: string,
      project: string,
      code: 'image.not_found' | 'disk.not_found',
    ) => {
      const found = [...things.values()].find(({ id, name }) => id === which || name === which);
      if (found?.project !== project) throw new M2Error(code, `There is no ${which}`);
      return found;
    };
    const page = <T extends { name: string; project: string }>(
      things: Map<string, T>,
      { project, cursor, limit }: { project: string; cursor?: string | undefined; limit: number },
    ) => {
      const all = [...things.values()].filter((thing) => thing.project === project && thing.name > (cursor ?? ''));
      const items = all.toSorted((a, b) => (a.name < b.name ? -1 : 1)).slice(0, limit);
      return all.length > limit ? { items, next: items.at(-1)!.name } : { items };
    };
    this.on(imageShow, ({ image, project }) => one(this.images, image, project, 'image.not_found'));
    this.on(imageList, (filter) => page(this.images, filter));
    this.on(imageImport, ({ imageId, project, name }) => {
      const image = { ...this.addImage(name, project), id: imageId };
      this.images.set(imageId, image);
      return image;
    });
    this.on(imageDelete, ({ imageId }) => {
      this.images.delete(imageId);
      return {};
    });
    this.on(diskShow, ({ disk, project }) => one(this.disks, disk, project, 'disk.not_found'));
    this.on(diskList, (filter) => page(this.disks, filter));
    this.on(diskCreate, ({ diskId, project, name, image }) => {
      const rest = { state: 'ready' as const, volume: 'm1img1', sizeBytes: 512, holder: null };
      const disk = { id: diskId, project, name, image, ...rest, createdAt: new Date().toISOString() };
      this.disks.set(diskId, disk);
      return disk;
    });
    this.on(diskDelete, ({ diskId }) => {
      this.disks.delete(diskId);
      return {};
    });
    this.on(diskAttach, ({ diskId, project, holder }) => {
      const disk = { ...one(this.disks, diskId, project, 'disk.not_found'), holder };
      this.disks.set(diskId, disk);
      return { disk, backing: { type: 'file', path: '/x' } };
    });
    this.on(diskDetach, ({ diskId }) => {
      const disk = this.disks.get(diskId);
      if (disk) this.disks.set(diskId, { ...disk, holder: null });
      return {};
    });
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
    this.on(nodeList, ({ project }) => ({ items: [...this.nodes.values()].filter((node) => visible(node, project)) }));
    this.on(nodeRegister, ({ name, project }) => this.addNode(name, project));
    this.on(nodeSetBmc, ({ nodeId }) => find(nodeId));
    this.on(nodeRemove, ({ nodeId }) => {
      this.nodes.delete(nodeId);
      return {};
    });
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
