import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { diskName, type RbdBacking } from './rbd-disk.js';

/** One disk of a daemon, recorded before it is opened. The record survives the daemon and this service. */
export interface DiskRecord {
  backing: RbdBacking;
  /** The address of the daemon's client that has the image open, in the cluster's form; absent until it is known. */
  client?: string;
}

/** The records of one daemon's disks and their mount points, all in one directory. */
export class DiskRecords {
  private readonly mountpoints: string;

  constructor(private readonly directory: string) {
    this.mountpoints = join(directory, 'disks');
  }

  /** The path at which the disk is shown as a file. */
  path(backing: RbdBacking): string {
    return join(this.mountpoints, diskName(backing));
  }

  /** The directory of all mount points. */
  get mounts(): string {
    return this.mountpoints;
  }

  async get(backing: RbdBacking): Promise<DiskRecord | undefined> {
    return this.read(`${diskName(backing)}.json`);
  }

  /** Writes the record and creates the mount point. It must not be mounted: a mounted file may hang. */
  async begin(record: DiskRecord): Promise<void> {
    await mkdir(this.mountpoints, { recursive: true, mode: 0o700 });
    await this.write(record);
    await writeFile(this.path(record.backing), '', { mode: 0o600 });
  }

  async write(record: DiskRecord): Promise<void> {
    const path = join(this.directory, `${diskName(record.backing)}.json`);
    await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    await rename(`${path}.new`, path);
  }

  async remove(backing: RbdBacking): Promise<void> {
    await rm(this.path(backing), { force: true });
    // The record goes last: as long as it is there, the rest is found again.
    await rm(join(this.directory, `${diskName(backing)}.json`), { force: true });
  }

  async all(): Promise<DiskRecord[]> {
    const names = await readdir(this.directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    const records = await Promise.all(
      names.filter((name) => /^[0-9a-f]{32}\.json$/.test(name)).map((it) => this.read(it)),
    );
    return records.filter((record) => record !== undefined);
  }

  private async read(name: string): Promise<DiskRecord | undefined> {
    try {
      return JSON.parse(await readFile(join(this.directory, name), 'utf8')) as DiskRecord;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }
}
