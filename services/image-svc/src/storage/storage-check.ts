import { type Finding, storageCheck, storageRepair, storageRepaired, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT, meter, type Sql } from '@m2/service-kit';
import { type BeforeApplicationShutdown, Controller, Inject, type OnModuleInit } from '@nestjs/common';
import type { StorageBackend, VolumeInfo } from '@m2/storage';
import { STORAGE } from './storage.token.js';
import type { ImageConfig } from '../config.js';
import { isStorageTag, storageTag } from '../disks/tag-store.js';

const everyMs = 600_000;
/** What the last look of a repair may take. */
const lastMs = 5_000;

/** A volume on record, and whether it has to be there by now. */
interface Owned {
  kind: 'golden' | 'disk';
  volume: string;
  project: string;
  what: string;
  complete: boolean;
}

interface OwnedTag {
  volume: string;
  id: string;
  name: string;
  project: string;
  complete: boolean;
}

/** A difference, before anybody looked for how long it has been there. */
type Difference = Omit<Finding, 'firstSeenAt' | 'repairableAt'>;

/** Compares the storage with what is on record: said aloud every ten minutes, explained to who asks, repaired only when asked. */
@Controller()
export class StorageCheck implements OnModuleInit, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<unknown> = Promise.resolve();
  private readonly gauge = meter().createGauge('m2_storage_findings', {
    description: 'Differences between the storage and what is on record',
  });

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {}

  onModuleInit(): void {
    this.timer = setInterval(() => {
      this.round = this.look()
        .then((found) => this.announce(found))
        .catch((error: unknown) => this.kit.log.warn({ err: error }, 'the storage was not checked'));
    }, everyMs);
  }

  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.round;
  }

  @Answers(storageCheck)
  async check(_: RequestOf<typeof storageCheck>) {
    return { items: await this.look() };
  }

  private async look(): Promise<Finding[]> {
    return this.findings(this.kit.database, await this.volumes(this.kit.database));
  }

  /**
   * The records are asked again just before each is repaired: they may explain it now. The storage is read once, as it may take long, and
   * can only have lost meanwhile what is to be removed: no volume and no tag gets its name a second time.
   */
  @Handles(storageRepair)
  async repair(_: RequestOf<typeof storageRepair>, effect: Effect) {
    const repaired: Finding[] = [];
    const volumes = await this.volumes(effect);
    const due = (await this.findings(effect, volumes)).filter((finding) => isDue(finding));
    for (const finding of due) {
      // What is left is found again, and an answer that comes too late helps nobody.
      if (effect.remainingMs < lastMs) break;
      const still = (await this.differences(effect, volumes)).some((one) => keyOf(one) === keyOf(finding));
      if (!still) continue;
      try {
        await this.remove(finding, volumes);
        repaired.push(finding);
      } catch (error) {
        this.kit.log.warn({ err: error, finding }, 'a difference could not be repaired');
      }
    }
    const left = await this.findings(effect, await this.volumes(effect));
    return effect.commit(async (_sql, emit) => {
      for (const { kind, volume, tag } of repaired)
        emit(storageRepaired, { kind, volume, tag }, { entity: volume, project: null });
      return { repaired, left };
    });
  }

  private async remove({ kind, volume, tag, project }: Finding, volumes: VolumeInfo[]): Promise<void> {
    // Storage that keeps no projects apart does not say whose a disk was.
    const disk = { project: project ?? '', name: volume };
    const isDisk = project !== null || volumes.some((info) => info.name === volume && info.kind === 'disk');
    if (kind === 'tag_without_owner' && tag) await this.storage.ensureNoTag(disk, tag);
    else if (isDisk) await this.storage.ensureNoDisk(disk);
    else await this.storage.ensureNoGolden(volume);
  }

  private announce(found: Finding[]): void {
    this.gauge.record(found.length);
    if (found.length > 0)
      this.kit.log.warn(
        { findings: found.map(({ kind, volume }) => ({ kind, volume })) },
        'the storage differs from what is on record: see m2 fsck',
      );
  }

  /** With the time since when each is known, which begins now for a new one and is forgotten when it is gone. */
  private async findings(sql: Sql, volumes: VolumeInfo[]): Promise<Finding[]> {
    const differences = await this.differences(sql, volumes);
    const seen = await sql.query<{ kind: string; volume: string; tag: string; at: Date }>(
      `WITH now_there AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS d(kind text, volume text, tag text)),
         gone AS (DELETE FROM findings f WHERE NOT EXISTS
           (SELECT 1 FROM now_there n WHERE (n.kind, n.volume, n.tag) = (f.kind, f.volume, f.tag)))
       INSERT INTO findings (kind, volume, tag) SELECT kind, volume, tag FROM now_there
       ON CONFLICT (kind, volume, tag) DO UPDATE SET kind = excluded.kind RETURNING kind, volume, tag, first_seen_at AS at`,
      [JSON.stringify(differences.map(({ kind, volume, tag }) => ({ kind, volume, tag: tag ?? '' })))],
    );
    const since = new Map(seen.map(({ kind, volume, tag, at }) => [`${kind} ${volume} ${tag}`, at]));
    return differences.map((difference) => {
      const firstSeen = since.get(keyOf(difference)) ?? new Date();
      const repairable = new Date(firstSeen.getTime() + this.kit.config.orphanGraceSeconds * 1_000);
      return {
        ...difference,
        firstSeenAt: firstSeen.toISOString(),
        repairableAt: difference.repair ? repairable.toISOString() : null,
      };
    });
  }

  /** Those of this installation: others may share the storage. */
  private async volumes(sql: Sql): Promise<VolumeInfo[]> {
    const [installation] = await sql.query<{ uid: string }>('SELECT uid FROM installation');
    const mine = new RegExp(`^${installation!.uid}img[0-9]+$`);
    return (await this.storage.list()).filter(({ name }) => mine.test(name));
  }

  /** The storage was read before the records: what was made between the two reads is on record first, and so no orphan. */
  private async differences(sql: Sql, volumes: VolumeInfo[]): Promise<Difference[]> {
    const owned = new Map((await this.owned(sql)).map((one) => [one.volume, one]));
    const tags = await this.ownedTags(sql);
    return [...fromStorage(volumes, owned, tags), ...missing(volumes, owned, tags)];
  }

  private owned(sql: Sql): Promise<(Owned & Record<string, unknown>)[]> {
    return sql.query(
      `SELECT 'golden' AS kind, volume, project, 'image ' || name AS what, state = 'ready' AS complete FROM images
       UNION ALL SELECT 'disk', volume, project, 'disk ' || name, state IN ('ready', 'trashed') FROM disks
       UNION ALL SELECT 'disk', f.volume, d.project, 'disk ' || d.name || ' before a rollback', NOT f.pending
         FROM former_volumes f JOIN disks d ON d.id = f.disk`,
    );
  }

  private ownedTags(sql: Sql): Promise<(OwnedTag & Record<string, unknown>)[]> {
    return sql.query(
      `SELECT t.volume, t.id, t.name, d.project, t.state = 'ready' AND d.state <> 'deleting' AS complete
       FROM tags t JOIN disks d ON d.id = t.disk`,
    );
  }
}

const isDue = ({ repairableAt }: Finding) => repairableAt !== null && Date.parse(repairableAt) <= Date.now();
const keyOf = ({ kind, volume, tag }: Pick<Finding, 'kind' | 'volume' | 'tag'>) => `${kind} ${volume} ${tag ?? ''}`;

function fromStorage(volumes: VolumeInfo[], owned: Map<string, Owned>, tags: OwnedTag[]): Difference[] {
  const known = new Set(tags.map(({ volume, id }) => `${volume} ${storageTag(id)}`));
  return volumes.flatMap(({ name: volume, kind, project, tags: there }): Difference[] => {
    const owner = owned.get(volume);
    const base = { volume, tag: null, project };
    if (!owner) {
      const explanation =
        kind === 'partial'
          ? 'An interrupted command left it half made, and nothing on record wants it'
          : `It is a ${kind} volume, and no image and no disk on record is stored in it`;
      const found = kind === 'partial' ? 'volume_partial' : 'volume_without_owner';
      return [{ ...base, kind: found, explanation, repair: 'remove the volume' }];
    }
    return there
      .filter((tag) => !known.has(`${volume} ${tag}`))
      .map((tag) => ({
        ...base,
        project: owner.project,
        tag,
        kind: 'tag_without_owner' as const,
        ...(isStorageTag(tag)
          ? { explanation: `A tag of the ${owner.what} that is not on record`, repair: 'remove the tag' }
          : { explanation: `Somebody else made a snapshot of the ${owner.what}, which keeps its disk`, repair: null }),
      }));
  });
}

function missing(volumes: VolumeInfo[], owned: Map<string, Owned>, tags: OwnedTag[]): Difference[] {
  const there = new Map(volumes.filter(({ kind }) => kind !== 'partial').map((info) => [info.name, info]));
  const lost = [...owned.values()]
    .filter(({ volume, complete }) => complete && !there.has(volume))
    .map(({ volume, project, what }) => ({
      kind: 'volume_missing' as const,
      volume,
      tag: null,
      project,
      explanation: `The ${what} is on record, and the storage has no such volume: restore it from a backup, or delete the ${what}`,
      repair: null,
    }));
  const lostTags = tags
    .filter(({ volume, id, complete }) => complete && there.get(volume)?.tags.includes(storageTag(id)) === false)
    .map(({ volume, id, name, project }) => ({
      kind: 'tag_missing' as const,
      volume,
      tag: storageTag(id),
      project,
      explanation: `The tag "${name}" is on record, and the storage does not have it: delete the tag`,
      repair: null,
    }));
  return [...lost, ...lostTags];
}
