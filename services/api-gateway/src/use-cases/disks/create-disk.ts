import { type InputOfUseCase, M2Error, type Project, useCases } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import { v7 as uuidv7 } from 'uuid';
import type { DiskCreateInput } from '../../sagas/disk-create.js';
import { readyImage } from '../images/find-image.js';
import { implement } from '../use-case.js';
import { readyDisk, refuseTakenDisk, tagOf } from './find-disk.js';

interface Origin {
  from: DiskCreateInput['from'];
  sizeBytes: number | null;
}

export const createDisk = implement(useCases.diskCreate, async ({ kit, runner }, request, given) => {
  const [{ from, sizeBytes }] = await Promise.all([
    originOf(kit, request.project, given),
    refuseTakenDisk(kit, request.project, given.name),
  ]);
  if (given.sizeBytes !== undefined && sizeBytes !== null && given.sizeBytes < sizeBytes)
    throw new M2Error('disk.too_small', `What the disk is cloned from has ${sizeBytes} bytes`);
  const input: DiskCreateInput = { disk: uuidv7(), name: given.name, from, sizeBytes: given.sizeBytes };
  return runner.begin(request, 'disk.create', input, {
    disk: input.disk,
    ...(from.kind === 'image' ? { image: from.image } : { from: from.disk }),
  });
});

/** What a new disk is cloned from, by identifier, and how long that is. */
async function originOf(
  kit: Kit,
  project: Project,
  { image, disk, tag }: InputOfUseCase<typeof useCases.diskCreate>,
): Promise<Origin> {
  if (disk === undefined) {
    const { id, sizeBytes } = await readyImage(kit, project, image as string);
    return { from: { kind: 'image', image: id }, sizeBytes };
  }
  const source = await readyDisk(kit, project, disk);
  if (tag === undefined) return { from: { kind: 'disk', disk: source.id }, sizeBytes: source.sizeBytes };
  const { id, sizeBytes } = await tagOf(kit, source, tag);
  return { from: { kind: 'disk', disk: source.id, tag: id }, sizeBytes };
}
