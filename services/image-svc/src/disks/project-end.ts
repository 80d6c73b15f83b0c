import { projectDeleted } from '@m2/contracts';
import { Consumes, type Kit, KIT, type ReceivedEvent } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { StorageBackend } from '@m2/storage';
import { STORAGE } from '../storage/storage.token.js';

/** Removes what the storage keeps for a project (a namespace, a user) when the project is deleted. */
@Controller()
export class ProjectEnd {
  constructor(
    @Inject(KIT) private readonly kit: Kit,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  @Consumes({ durable: 'image-projects', of: projectDeleted })
  async forget(events: ReceivedEvent[]): Promise<void> {
    for (const { data } of events)
      await this.storage.ensureNoProject(String(data['id'])).catch((error: unknown) => {
        // A project that still has something in the storage (see the storage check) does not stop the others.
        this.kit.log.warn({ err: error, project: data['id'] }, 'a deleted project still has something in the storage');
      });
  }
}
