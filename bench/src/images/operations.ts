import { type Stage, untilEnded } from '@m2/cli';
import type { Operation } from '@m2/contracts';

/** Waits for an operation, and answers what it is about. Throws when it failed. */
export async function succeeded({ client }: Stage, { id, kind }: Operation): Promise<Operation['about']> {
  const { state, error, about } = await untilEnded(client, id);
  if (state !== 'succeeded') throw new Error(`${kind} ended ${state}: ${JSON.stringify(error)}`);
  return about;
}

export async function importImage(stage: Stage, name: string, path: string): Promise<void> {
  const body = { name, source: { kind: 'file' as const, path } };
  await succeeded(stage, await stage.client.call('imageImport', { params: { project: stage.project }, body }));
}
