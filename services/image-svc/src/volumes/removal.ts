import { M2Error } from '@m2/contracts';
import type { Emit, Kit, Sql } from '@m2/service-kit';

/** SQL: no command takes this long, so what is still pending was abandoned. */
export const commandTime = '1 hour';

/** What a removal is committed with: the `Effect` of a command, or `withoutCommand(kit)`. */
export interface Committer extends Sql {
  commit<T>(work: (sql: Sql, emit: Emit) => Promise<T>): Promise<T>;
}

/** For removals that the service begins by itself. */
export const withoutCommand = (kit: Kit): Committer => ({
  query: (text, values) => kit.database.query(text, values),
  commit: (work) => kit.transact(work),
});

/** Something that has rows in the database and data in the storage. Its row is already marked as being deleted. */
export interface Removal {
  /** Removes the data. It may be gone already. */
  destroy(): Promise<void>;
  /** Makes the row usable again. Called when the storage refused with `storage.in_use`: nothing was lost. */
  restore?(): Promise<unknown>;
  /** Deletes the rows and emits the event. */
  forget(sql: Sql, emit: Emit): Promise<void>;
  /** Frees what it depended on. */
  release?(): Promise<void>;
}

/**
 * The one way to remove images, disks, tags and exports: first the data, then the rows with their event, then what only they needed. A
 * crash in between leaves a marked row, and never data without a row; `Housekeeping` goes on where nobody else does. Throws what the storage throws.
 */
export async function finishRemoval(committer: Committer, removal: Removal): Promise<void> {
  try {
    await removal.destroy();
  } catch (error) {
    if (M2Error.from(error).code === 'storage.in_use') await removal.restore?.();
    throw error;
  }
  await committer.commit(async (sql, emit) => {
    await removal.forget(sql, emit);
    return {};
  });
  await removal.release?.();
}
