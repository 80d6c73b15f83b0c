import { StorageError } from '@m2/storage';
import { describe, expect, it } from 'vitest';
import { type Committer, finishRemoval, type Removal } from './removal.js';

/** A removal that notes its steps. `refusal` is what the storage throws. */
async function remove(refusal?: Error) {
  const steps: string[] = [];
  const committer: Committer = {
    query: async () => [],
    commit: async (work) => {
      const result = await work(committer, () => {});
      steps.push('commit');
      return result;
    },
  };
  const removal: Removal = {
    destroy: async () => {
      steps.push('destroy');
      if (refusal) throw refusal;
    },
    restore: async () => steps.push('restore'),
    forget: async () => void steps.push('forget'),
    release: async () => void steps.push('release'),
  };
  const error: unknown = await finishRemoval(committer, removal).catch((thrown: unknown) => thrown);
  return { steps, error };
}

describe('a removal', () => {
  it('removes the data before the rows, and frees what it depended on last', async () => {
    expect(await remove()).toEqual({ steps: ['destroy', 'forget', 'commit', 'release'], error: undefined });
  });

  it('that the storage refuses makes the row usable again', async () => {
    const refusal = new StorageError('storage.in_use', 'It has clones.');
    expect(await remove(refusal)).toEqual({ steps: ['destroy', 'restore'], error: refusal });
  });

  it('that fails otherwise leaves the row marked, for the next attempt', async () => {
    const failure = new StorageError('storage.unavailable', 'No answer.');
    expect(await remove(failure)).toEqual({ steps: ['destroy'], error: failure });
  });
});
