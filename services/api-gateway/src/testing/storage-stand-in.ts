import {
  type Call,
  type Disk,
  diskAttach,
  diskCreate,
  diskDelete,
  diskDetach,
  diskFlatten,
  diskFlattenCancel,
  diskList,
  diskRestore,
  diskRollback,
  diskShow,
  diskTag,
  diskTags,
  diskTransfer,
  diskUntag,
  diskUpdate,
  diskUsers,
  type Image,
  imageDelete,
  type ImageExport,
  imageExportCancel,
  imageExportShow,
  imageExportStart,
  imageImport,
  imageList,
  imageShow,
  imageTransfer,
  imageTree,
  imageUpdate,
  M2Error,
  quotaSet,
  quotaShow,
  type RequestOf,
  storageCheck,
  storageFreeing,
  storageRepair,
  type Tag,
} from '@m2/contracts';
import type { answer } from '@m2/service-kit/testing';
import { v7 as uuidv7 } from 'uuid';

export type On = <C extends Call>(call: C, reply: Parameters<typeof answer<C>>[2]) => void;

const now = () => new Date().toISOString();
const metadata = { operatingSystem: null, architecture: null, defaultUser: null, userData: false };

/** The service with the images and disks, in memory. Names are found as the real one finds them: what is in the trash has none. */
export class StorageStandIn {
  readonly images = new Map<string, Image>();
  readonly disks = new Map<string, Disk>();
  readonly tags = new Map<string, Tag>();
  readonly exports = new Map<string, ImageExport>();
  /** What it answers when it is asked to open a door, and what the doors were asked for. */
  door = { url: 'http://127.0.0.1:1/', ticket: 'nobody' };
  /** What becomes of a disk that is to be made flat. */
  flattening: Pick<Disk, 'flattening'> = { flattening: null };
  readonly doors: (RequestOf<typeof imageTransfer> | RequestOf<typeof diskTransfer>)[] = [];

  constructor(on: On) {
    this.standInForImages(on);
    this.standInForDisks(on);
    this.standInForTags(on);
    const quota = { limits: { bytes: null, disks: null, images: null }, used: { bytes: 0, disks: 0, images: 0 } };
    on(quotaShow, () => quota);
    on(quotaSet, ({ limits }) => ({ ...quota, limits }));
    on(storageCheck, () => ({ items: [] }));
    on(storageFreeing, () => ({ items: [] }));
    on(storageRepair, () => ({ repaired: [], left: [], more: false }));
    on(imageTransfer, (request) => this.open(request));
    on(diskTransfer, (request) => this.open(request));
  }

  addImage(name: string, project: string, more: Partial<Image> = {}): Image {
    const made: Image = {
      id: uuidv7(),
      project,
      name,
      state: 'ready',
      format: 'raw',
      sizeBytes: 512,
      sha256: null,
      visibility: 'private',
      sharedWith: [],
      metadata,
      parent: null,
      createdAt: now(),
      progress: null,
      error: null,
      ...more,
    };
    this.images.set(made.id, made);
    return made;
  }

  addDisk(name: string, project: string, more: Partial<Disk> = {}): Disk {
    const made: Disk = {
      id: uuidv7(),
      project,
      name,
      state: 'ready',
      image: null,
      fork: null,
      depth: 0,
      volume: 'm1img1',
      sizeBytes: 512,
      holder: null,
      flattening: null,
      createdAt: now(),
      trashedAt: null,
      ...more,
    };
    this.disks.set(made.id, made);
    return made;
  }

  addTag(name: string, disk: Disk, id = uuidv7()): Tag {
    const tag = { id, disk: disk.id, name, sizeBytes: disk.sizeBytes, automatic: false, createdAt: now() };
    this.tags.set(tag.id, tag);
    return tag;
  }

  private open(request: RequestOf<typeof imageTransfer> | RequestOf<typeof diskTransfer>) {
    this.doors.push(request);
    return this.door;
  }

  private image(which: string, project: string): Image {
    const found = [...this.images.values()].find(
      (image) => (image.id === which || image.name === which) && isVisible(image, project),
    );
    if (!found) throw new M2Error('image.not_found', `There is no ${which}`);
    return found;
  }

  private disk(which: string, project: string): Disk {
    const found = [...this.disks.values()].find(
      ({ id, name, state }) => id === which || (name === which && state !== 'trashed'),
    );
    if (found?.project !== project) throw new M2Error('disk.not_found', `There is no ${which}`);
    return found;
  }

  private change(id: string, project: string, to: Partial<Disk>): Disk {
    const disk = { ...this.disk(id, project), ...to };
    this.disks.set(id, disk);
    return disk;
  }

  private standInForImages(on: On): void {
    on(imageShow, ({ image, project }) => this.image(image, project));
    on(imageList, ({ project, name, own, ...page }) =>
      pageOf(
        this.images,
        (image) => (own ? image.project === project : isVisible(image, project)) && (!name || image.name === name),
        page,
      ),
    );
    on(imageTree, ({ image, project }) => {
      const { id, name, state, sizeBytes } = this.image(image, project);
      return { items: [{ kind: 'image', id, name, parent: null, sizeBytes, state }] };
    });
    on(imageImport, ({ imageId, project, name, source }) =>
      this.addImage(name, project, { id: imageId, state: source.kind === 'upload' ? 'importing' : 'ready' }),
    );
    on(imageUpdate, ({ imageId, project, toProject, metadata: described, ...changes }) => {
      const image = this.image(imageId, project);
      return this.addImage(image.name, toProject ?? project, {
        ...image,
        ...(changes as Partial<Image>),
        project: toProject ?? project,
        metadata: { ...image.metadata, ...(described as Partial<Image['metadata']>) },
      });
    });
    on(imageDelete, ({ imageId }) => {
      this.images.delete(imageId);
      return {};
    });
    on(imageExportStart, ({ exportId: id, project, image, volume }) => {
      const made: ImageExport = { id, project, image, volume, state: 'done', progress: null, error: null };
      this.exports.set(id, made);
      return made;
    });
    on(imageExportShow, ({ exportId }) => {
      const found = this.exports.get(exportId);
      if (!found) throw new M2Error('image.export_not_found', `There is no ${exportId}`);
      return found;
    });
    on(imageExportCancel, ({ exportId }) => {
      this.exports.delete(exportId);
      return {};
    });
  }

  private standInForDisks(on: On): void {
    on(diskShow, ({ disk, project }) => this.disk(disk, project));
    on(diskList, ({ project, name, trashed, ...page }) =>
      pageOf(
        this.disks,
        (disk) =>
          disk.project === project && (disk.state === 'trashed') === Boolean(trashed) && (!name || disk.name === name),
        page,
      ),
    );
    on(diskCreate, ({ diskId, project, name, from }) =>
      this.addDisk(name, project, { id: diskId, image: from.kind === 'image' ? from.image : null }),
    );
    on(diskUpdate, ({ diskId, project, name, sizeBytes }) =>
      this.change(diskId, project, { ...(name && { name }), ...(sizeBytes && { sizeBytes }) }),
    );
    on(diskFlatten, ({ diskId, project }) => this.change(diskId, project, { image: null, ...this.flattening }));
    on(diskFlattenCancel, ({ diskId, project }) => {
      this.change(diskId, project, { flattening: null });
      return {};
    });
    on(diskDelete, ({ diskId, project, purge }) => {
      if (purge) this.disks.delete(diskId);
      else this.change(diskId, project, { state: 'trashed', trashedAt: now() });
      return {};
    });
    on(diskRestore, ({ diskId, project, name }) =>
      this.change(diskId, project, { state: 'ready', trashedAt: null, ...(name && { name }) }),
    );
    on(diskAttach, ({ diskId, project, holder }) => {
      return { disk: this.change(diskId, project, { holder }), backing: { type: 'file', path: '/x' } };
    });
    on(diskDetach, ({ diskId, project }) => {
      if (this.disks.has(diskId)) this.change(diskId, project, { holder: null });
      return {};
    });
  }

  private standInForTags(on: On): void {
    on(diskTags, ({ project, disk, name, ...page }) => {
      const { id } = this.disk(disk, project);
      return pageOf(this.tags, (tag) => tag.disk === id && (!name || tag.name === name), page);
    });
    on(diskUsers, ({ project, disk }) => {
      const { id } = this.disk(disk, project);
      const forks = [...this.disks.values()].filter(({ fork }) => fork?.disk === id);
      return { items: forks.map(({ name }) => `disk ${name}`) };
    });
    on(diskTag, ({ tagId, diskId, project, name }) => this.addTag(name, this.disk(diskId, project), tagId));
    on(diskUntag, ({ tagId }) => {
      this.tags.delete(tagId);
      return {};
    });
    on(diskRollback, ({ diskId, project }) => this.disk(diskId, project));
  }
}

const isVisible = ({ project, visibility, sharedWith }: Image, asking: string) =>
  project === asking || visibility === 'public' || (visibility === 'shared' && sharedWith.includes(asking));

/** Things by name, a page of them. */
function pageOf<T extends { name: string }>(
  things: Map<string, T>,
  isWanted: (thing: T) => boolean,
  { cursor = '', limit }: { cursor?: string | undefined; limit: number },
): { items: T[]; next?: string } {
  const all = [...things.values()].filter((thing) => isWanted(thing) && thing.name > cursor);
  const items = all.toSorted((a, b) => (a.name < b.name ? -1 : 1)).slice(0, limit);
  return all.length > limit ? { items, next: items.at(-1)!.name } : { items };
}
