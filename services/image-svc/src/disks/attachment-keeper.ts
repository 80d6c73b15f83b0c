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

/** Attaches the held disks again, after a restart of the machine or when the process behind them died. */
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

  /** Runs last, when everything that uses the storage has stopped. */
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

  /** This only tells; it does not attach. A disk that is being detached at this moment would stay attached for ever. */
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
