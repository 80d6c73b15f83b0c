import { type AddressBook, RbdClient } from '@m2/rbd';
import { withDeadline } from '../deadline.js';
import { Locks } from '@m2/locks';
import { assertTag, assertVolumeName } from '../../storage.port.js';
import type {
  BackingStore,
  DiskVolume,
  GoldenSource,
  LongWork,
  Origin,
  Readable,
  RemovedVolume,
  StorageBackend,
  VolumeInfo,
  VolumeReader,
  ForeignKey,
} from '../../storage.port.js';
import { Clones } from './clones.js';
import { Disks } from './disks.js';
import { translateErrors } from './errors.js';
import { copyToForeign, ensureNoForeign } from './foreign.js';
import { Goldens } from './goldens.js';
import { listVolumes } from './listing.js';
import { assertDisk, assertOrigin, assertProject, assertReadable, ImageLocations } from './names.js';
import { Projects } from './projects.js';
import { RbdReader } from './reader.js';
import { Trash } from './trash.js';

export interface RbdBackendOptions {
  /** Absolute path of ceph.conf, which names the keyring. */
  conf: string;
  /**
   * The service's cephx user without "client.". It needs `profile rbd` in both pools, and manages the users of projects,
   * `client.<user>.<project>`.
   */
  user: string;
  imagePool: string;
  diskPool: string;
  /** Without it, what a killed process asked the cluster for may still happen after the next one has begun. */
  addressBook?: AddressBook;
}

const healthDeadlineMs = 5_000;

/**
 * Volumes as RBD images of a Ceph cluster, Pacific or later; see `ImageLocations` for where they are.
 *
 * The cluster is the only state, and several services may use the same pools at once. Between two of them, one atomic step of the cluster
 * always decides: a name that is taken, a snapshot that is removed. The locks in this process only keep its own calls apart.
 *
 * Each request to the cluster has a deadline (`RbdClient`). Calls for one volume wait for each other, so when the cluster is down the last
 * of several waits for as many deadlines.
 */
export class RbdBackend implements StorageBackend {
  readonly name = 'rbd';
  private readonly rbd: RbdClient;
  private readonly locations: ImageLocations;
  private readonly projects: Projects;
  private readonly goldens: Goldens;
  private readonly clones: Clones;
  private readonly disks: Disks;
  private readonly trash: Trash;
  private probing: Promise<unknown> | undefined;

  private constructor({ conf, user, imagePool, diskPool, addressBook }: RbdBackendOptions) {
    const locks = new Locks();
    this.rbd = RbdClient.open({ conf, user, ...(addressBook && { addressBook }) });
    this.locations = new ImageLocations(imagePool, diskPool);
    this.projects = new Projects(this.rbd, this.locations, user);
    this.trash = new Trash(this.rbd, this.locations);
    this.goldens = new Goldens(this.rbd, this.locations, locks, this.trash);
    this.clones = new Clones(this.rbd, this.locations, locks, this.projects, this.goldens);
    this.disks = new Disks(this.rbd, this.locations, locks, this.trash);
  }

  /** Needs no cluster: the service starts without it, and reports that by `health`. */
  static async open(options: RbdBackendOptions): Promise<RbdBackend> {
    return new RbdBackend(options);
  }

  async ensureGolden(golden: string, source: GoldenSource, work: LongWork = {}): Promise<VolumeInfo> {
    assertVolumeName(golden);
    if ('foreign' in source) this.locations.foreign(source.foreign, { snap: true });
    else if (!('path' in source)) assertOrigin(source);
    return translateErrors(`make ${golden}`, () => this.goldens.ensure(golden, source, work), work);
  }

  async ensureClone(origin: Origin, disk: DiskVolume, options: { sizeBytes?: number } = {}): Promise<VolumeInfo> {
    assertOrigin(origin);
    assertDisk(disk);
    return translateErrors(`clone ${disk.name}`, () => this.clones.ensure(origin, disk, options.sizeBytes));
  }

  async ensureTag(disk: DiskVolume, tag: string): Promise<void> {
    assertDisk(disk);
    assertTag(tag);
    await translateErrors(`tag ${disk.name}`, () => this.disks.tag(disk, tag));
  }

  async ensureNoTag(disk: DiskVolume, tag: string): Promise<void> {
    assertDisk(disk);
    assertTag(tag);
    await translateErrors(`remove tag ${tag} of ${disk.name}`, () => this.disks.untag(disk, tag));
  }

  async ensureSize(disk: DiskVolume, sizeBytes: number): Promise<void> {
    assertDisk(disk);
    await translateErrors(`resize ${disk.name}`, () => this.disks.resize(disk, sizeBytes));
  }

  async ensureFlat(disk: DiskVolume, work: LongWork = {}): Promise<void> {
    assertDisk(disk);
    await translateErrors(`make ${disk.name} flat`, () => this.disks.flatten(disk, work), work);
  }

  async ensureNoGolden(golden: string): Promise<void> {
    assertVolumeName(golden);
    await translateErrors(`remove ${golden}`, () => this.goldens.ensureNo(golden));
  }

  async ensureNoDisk(disk: DiskVolume): Promise<void> {
    assertDisk(disk);
    await translateErrors(`remove ${disk.name}`, () => this.disks.remove(disk));
  }

  /** Fences no client. The target does that, because it knows whether the client that holds the image's lock is its own and dead. */
  async ensureAttached(disk: DiskVolume): Promise<BackingStore> {
    assertDisk(disk);
    const { pool, namespace, image } = await translateErrors(`attach ${disk.name}`, () => this.disks.assertThere(disk));
    return { type: 'rbd', pool, namespace, image, user: this.projects.user(disk.project) };
  }

  /** Does nothing: an image needs no attaching. */
  async ensureDetached(disk: DiskVolume): Promise<void> {
    assertDisk(disk);
  }

  async openReader(readable: Readable): Promise<VolumeReader> {
    assertReadable(readable);
    const ref = this.locations.readable(readable);
    return translateErrors(`open ${ref.image}`, () => RbdReader.open(this.rbd, ref));
  }

  async ensureNoForeign(foreign: string, key: string): Promise<void> {
    await translateErrors(`remove ${foreign}`, () => ensureNoForeign(this.rbd, this.locations, foreign, key));
  }

  async copyToForeign(origin: Origin, foreign: string, work: LongWork & ForeignKey): Promise<void> {
    assertOrigin(origin);
    await translateErrors(
      `copy to ${foreign}`,
      () => copyToForeign(this.rbd, this.locations, origin, foreign, work),
      work,
    );
  }

  removed(): Promise<RemovedVolume[]> {
    return translateErrors('list the trash', () => this.trash.list());
  }

  onRemoved(listener: (volume: RemovedVolume) => void): void {
    this.trash.onMoved(listener);
  }

  async ensureFreed(volume: RemovedVolume, work: LongWork = {}): Promise<void> {
    if (volume.project !== null) assertProject(volume.project);
    await translateErrors(`free the space of ${volume.name}`, () => this.trash.free(volume, work), work);
  }

  async ensureNoProject(project: string): Promise<void> {
    assertProject(project);
    await translateErrors(`forget project ${project}`, () => this.projects.ensureNo(project));
  }

  list(): Promise<VolumeInfo[]> {
    return translateErrors('list the volumes', () => listVolumes(this.rbd, this.locations));
  }

  async health(): Promise<void> {
    // One probe at a time. It gets more time than we wait, because at a call's deadline the whole connection could be replaced.
    this.probing ??= this.probe().finally(() => (this.probing = undefined));
    await withDeadline(this.probing, healthDeadlineMs, 'read from the Ceph cluster');
  }

  /** Attached disks need no process of ours. */
  onAttachmentsLost(): void {}

  async close(): Promise<void> {
    await this.rbd.close();
  }

  /** Asks an OSD of each pool for an object that does not exist: a full cluster can only read, and must still be able to remove. */
  private probe(): Promise<unknown> {
    const { imagePool, diskPool } = this.locations;
    const pools = [imagePool, diskPool].map((pool) => this.rbd.namespaceExists(pool, 'm2-health'));
    return translateErrors('read from the Ceph cluster', () => Promise.all(pools));
  }
}
