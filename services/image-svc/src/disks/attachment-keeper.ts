import { diskReattached } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';

interface Row {
  id: string;
  project: string;
  name: string;
  volume: string;
}

/** Makes the storage have what the held disks need: after a restart of the machine, and when the process behind them died. */
@Injectable()
export class AttachmentKeeper implements OnModuleInit, OnApplicationShutdown {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  async onModuleInit(): Promise<void> {
    this.storage.onAttachmentsLost((volumes) => {
      this.announce(volumes).catch((error: unknown) =>
        this.kit.log.error({ err: error }, 'lost attachments were not announced'),
      );
    });
    this.kit.readiness.push({ name: 'storage', check: () => this.storage.health() });
    await this.restore();
  }

  /** After all others have ended what they had under way. */
  onApplicationShutdown(): Promise<void> {
    return this.storage.close();
  }

  private async restore(): Promise<void> {
    const held = await this.kit.database.query<Row & Record<string, unknown>>(
      `SELECT id, project, name, volume FROM disks WHERE holder IS NOT NULL AND state = 'ready'`,
    );
    await Promise.all(
      held.map(({ project, volume }) =>
        this.storage.ensureAttached({ project, name: volume }).catch((error: unknown) => {
          this.kit.log.error({ err: error, volume }, 'a disk in use could not be attached');
        }),
      ),
    );
  }

  /** Only told, not attached once more: one of them may be on its way out at this moment, and would stay for ever. */
  private async announce(volumes: string[]): Promise<void> {
    this.kit.log.warn({ volumes }, 'attached disks were lost and are back; their targets open them again');
    const disks = await this.kit.database.query<Row & Record<string, unknown>>(
      'SELECT id, project, name, volume FROM disks WHERE volume = ANY($1) AND holder IS NOT NULL',
      [volumes],
    );
    for (const { id, project, name } of disks)
      await this.kit.transact(async (_sql, emit) =>
        emit(diskReattached, { id, project, name }, { entity: id, project }),
      );
  }
}
