import { diskTransfer, imageTransfer, M2Error, type RequestOf } from '@m2/contracts';
import { Answers, type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { Readable } from '@m2/storage';
import type { ImageConfig } from '../config.js';
import { assertFree, DiskStore } from '../disks/disk-store.js';
import { storageTag, TagStore, volumeOf } from '../disks/tag-store.js';
import { ImageStore } from '../images/image-store.js';
import { type OpenDoor, TransferDoor } from './transfer-door.js';

/** Opens the door for one transfer, after it checked that the project may read or write the thing. */
@Controller()
export class TransferHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(DiskStore) private readonly disks: DiskStore,
    @Inject(TagStore) private readonly tags: TagStore,
    @Inject(TransferDoor) private readonly door: TransferDoor,
  ) {}

  @Answers(imageTransfer)
  async image({ project, image, purpose, format = 'raw' }: RequestOf<typeof imageTransfer>): Promise<OpenDoor> {
    const row = await this.images.row(image, project);
    if (purpose === 'upload') {
      if (row.project !== project || row.state !== 'importing' || row.source.kind !== 'upload')
        throw new M2Error('image.not_waiting', `The image "${row.name}" does not wait for an upload`);
      return this.door.openUpload({ imageId: row.id, maxBytes: this.kit.config.maxImageBytes });
    }
    if (row.state !== 'ready') throw new M2Error('image.not_ready', `The image "${row.name}" is ${row.state}`);
    return this.door.openDownload({ readable: { golden: row.volume }, name: row.name, format });
  }

  @Answers(diskTransfer)
  async disk(request: RequestOf<typeof diskTransfer>): Promise<OpenDoor> {
    const { project, format = 'raw' } = request;
    const disk = await this.disks.row(request.disk, project);
    const tag = request.tag && (await this.usable(request.tag, disk.id, project));
    const since = request.since && (await this.usable(request.since, disk.id, project));
    if (disk.state !== 'ready') throw new M2Error('disk.not_ready', `The disk "${disk.name}" is ${disk.state}`);
    // Read while a node writes, it would mix two moments, and the disk never had that content.
    if (!tag) assertFree(disk);
    const readable: Readable = tag
      ? { disk: volumeOf(tag), tag: storageTag(tag.id) }
      : { disk: { project, name: disk.volume } };
    const lies = tag ? tag.volume : disk.volume;
    if (since && since.volume !== lies)
      throw new M2Error('storage.unsupported', `The disk was rolled back since "${since.name}": download it whole`);
    return this.door.openDownload({
      readable,
      format,
      name: tag ? `${disk.name}-${tag.name}` : disk.name,
      ...(since && { since: storageTag(since.id) }),
    });
  }

  private usable(id: string, disk: string, project: string) {
    return this.kit.database.transaction((sql) => this.tags.usable(sql, id, disk, project));
  }
}
