import { storageCheck, storageFreeing, storageRepair, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { Reclaimer } from '../volumes/reclaimer.js';
import { StorageCheck } from './storage-check.js';

@Controller()
export class StorageHandlers {
  constructor(
    @Inject(StorageCheck) private readonly check: StorageCheck,
    @Inject(Reclaimer) private readonly reclaimer: Reclaimer,
  ) {}

  @Answers(storageCheck)
  show({ cursor, limit }: RequestOf<typeof storageCheck>) {
    return this.check.page(cursor, limit);
  }

  @Answers(storageFreeing)
  freeing({ cursor, limit }: RequestOf<typeof storageFreeing>) {
    return this.reclaimer.page(cursor, limit);
  }

  @Handles(storageRepair)
  repair(_: RequestOf<typeof storageRepair>, effect: Effect) {
    return this.check.repair(effect);
  }
}
