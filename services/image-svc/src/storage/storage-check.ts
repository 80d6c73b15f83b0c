import { type Finding, M2Error, repairsAtOnce, storageRepaired } from '@m2/contracts';
import { createHash } from 'node:crypto';
import { type Effect, type Kit, KIT, meter, pageWithin, Periodic, type Sql } from '@m2/service-kit';
import { type BeforeApplicationShutdown, Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import type { StorageBackend, VolumeInfo } from '@m2/storage';
import { STORAGE } from './storage.token.js';
import type { ImageConfig } from '../config.js';
import { isStorageTag, storageTag } from '../disks/tag-store.js';

const everyMs = 600_000;
/** Time reserved for the last check of a repair. */
const lastMs = 5_000;

/** How long the pages after the first one are of the same look: a large storage is not looked through for each page. */
const sameLookMs = 60_000;

/** A volume of the database, and whether it must exist by now. */
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

/** A difference without the time since when it is known. */
type Difference = Omit<Finding, 'firstSeenAt' | 'repairableAt'>;

/** `isDue`: its time of grace is over, by the database's clock. */
interface Known {
  finding: Finding;
  isDue: boolean;
}

/**
 * Compares the storage with the database. Logs differences every ten minutes, explains them on request, and repairs them only on request.
 */
@Injectable()
export class StorageCheck implements OnModuleInit, BeforeApplicationShutdown {
  private readonly rounds: Periodic;
  private looked: { findings: { place: string; finding: Finding }[]; until: number } | undefined;
  private readonly gauge = meter().createGauge('m2_storage_findings', {
    description: 'Differences between the storage and the database',
  });

  constructor(
    @Inject(KIT) private readonly kit: Kit<ImageConfig>,
    @Inject(STORAGE) private readonly storage: StorageBackend,
  ) {
    this.rounds = new Periodic({
      everyMs,
      work: async () => this.announce(await this.look()),
      onError: (err) => kit.log.warn({ err }, 'the storage could not be checked; it is tried again'),
    });
  }

  onModuleInit(): void {
    this.rounds.start();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.rounds.stop();
  }

  /** What differs now. */
  async look(): Promise<Finding[]> {
    const known = await this.known(this.kit.database, await this.volumes(this.kit.database));
    return known.map(({ finding }) => finding);
  }

  /** One page of what differs, in an order that the storage does not change. Throws M2Error `request.invalid`. */
  async page(cursor: string | undefined, limit: number): Promise<{ items: Finding[]; next?: string }> {
    if (cursor !== undefined && !/^[0-9a-f]{64}$/.test(cursor))
      throw new M2Error('request.invalid', 'cursor: is not a cursor of this list');
    if (cursor === undefined || !this.looked || performance.now() > this.looked.until)
      this.looked = { findings: inOrder(await this.look()), until: performance.now() + sameLookMs };
    const rest = this.looked.findings.filter(({ place }) => place > (cursor ?? ''));
    return pageWithin(
      rest.slice(0, limit + 1),
      limit,
      ({ finding }) => finding,
      ({ place }) => place,
    );
  }

  /**
   * Repairs what has differed for longer than the grace time, and commits the effect.
   *
   * Right before each repair the rows of its volume are read again, because it may explain the difference by now. The storage is read once, because
   * that may take long. Meanwhile it can only have lost what is to be removed: the names of volumes and tags are never used again.
   */
  async repair(effect: Effect): Promise<{ repaired: Finding[]; left: Finding[]; more: boolean }> {
    const repaired: Finding[] = [];
    const volumes = await this.volumes(effect);
    for (const { finding, isDue } of await this.known(effect, volumes)) {
      if (!isDue) continue;
      // What is left is found again, and a late answer is no use.
      if (effect.remainingMs < lastMs || repaired.length === repairsAtOnce) break;
      if (!(await this.differs(effect, volumes, finding))) continue;
      try {
        await this.remove(finding, volumes);
        repaired.push(finding);
      } catch (error) {
        this.kit.log.warn({ err: error, finding }, 'a difference could not be repaired');
      }
    }
    const left = await this.known(effect, await this.volumes(effect));
    return effect.commit(async (_sql, emit) => {
      for (const { kind, volume, tag } of repaired)
        emit(storageRepaired, { kind, volume, tag }, { entity: volume, project: null });
      return {
        repaired,
        left: left.slice(0, repairsAtOnce).map(({ finding }) => finding),
        more: left.length > repairsAtOnce || left.some(({ isDue }) => isDue),
      };
    });
  }

  private async remove({ kind, volume, tag, project }: Finding, volumes: VolumeInfo[]): Promise<void> {
    // Storage that does not separate projects does not tell the project of a disk.
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
        'the storage differs from the database: see m2 fsck',
      );
  }

  /** Adds the time since when each difference is known. A new one begins now; one that is gone is forgotten. */
  private async known(sql: Sql, volumes: VolumeInfo[]): Promise<Known[]> {
    const graceSeconds = this.kit.config.orphanGraceSeconds;
    const differences = await this.differences(sql, volumes);
    const seen = await sql.query<{ kind: Finding['kind']; volume: string; tag: string; at: Date; isOver: boolean }>(
      `WITH now_there AS (SELECT * FROM jsonb_to_recordset($1::jsonb) AS d(kind text, volume text, tag text)),
         gone AS (DELETE FROM findings f WHERE NOT EXISTS
           (SELECT 1 FROM now_there n WHERE (n.kind, n.volume, n.tag) = (f.kind, f.volume, f.tag)))
       INSERT INTO findings (kind, volume, tag) SELECT kind, volume, tag FROM now_there
       ON CONFLICT (kind, volume, tag) DO UPDATE SET kind = excluded.kind
       RETURNING kind, volume, tag, first_seen_at AS at, first_seen_at <= now() - $2 * interval '1 second' AS "isOver"`,
      [JSON.stringify(differences.map(({ kind, volume, tag }) => ({ kind, volume, tag: tag ?? '' }))), graceSeconds],
    );
    const since = new Map(seen.map((row) => [keyOf(row), row]));
    return differences.map((difference) => {
      const { at, isOver } = since.get(keyOf(difference))!;
      const repairable = new Date(at.getTime() + graceSeconds * 1_000);
      const finding = {
        ...difference,
        firstSeenAt: at.toISOString(),
        repairableAt: difference.repair ? repairable.toISOString() : null,
      };
      return { finding, isDue: isOver && difference.repair !== null };
    });
  }

  /** Only volumes of this installation: others may share the storage. */
  private async volumes(sql: Sql): Promise<VolumeInfo[]> {
    const [installation] = await sql.query<{ uid: string }>('SELECT uid FROM installation');
    const mine = new RegExp(`^${installation!.uid}img[0-9]+$`);
    return (await this.storage.list()).filter(({ name }) => mine.test(name));
  }

  private async differs(sql: Sql, volumes: VolumeInfo[], finding: Finding): Promise<boolean> {
    const { volume } = finding;
    const own = volumes.filter(({ name }) => name === volume);
    return (await this.differences(sql, own, volume)).some((one) => keyOf(one) === keyOf(finding));
  }

  /**
   * Read the storage before the database: what was created between the two reads is in the database, and so it is not an orphan. Of all
   * volumes, or of one.
   */
  private async differences(sql: Sql, volumes: VolumeInfo[], only: string | null = null): Promise<Difference[]> {
    const owned = new Map((await this.owned(sql, only)).map((one) => [one.volume, one]));
    const tags = await this.ownedTags(sql, only);
    return [...fromStorage(volumes, owned, tags), ...missing(volumes, owned, tags)];
  }

  private owned(sql: Sql, only: string | null): Promise<(Owned & Record<string, unknown>)[]> {
    const { where, values } = about(only);
    return sql.query(
      `SELECT 'golden' AS kind, volume, project, 'image ' || name AS what, state = 'ready' AS complete FROM images
         WHERE ${where('volume')}
       UNION ALL SELECT 'disk', volume, project, 'disk ' || name, state IN ('ready', 'trashed') FROM disks
         WHERE ${where('volume')}
       UNION ALL SELECT 'disk', f.volume, d.project, 'disk ' || d.name || ' before a rollback', NOT f.pending
         FROM former_volumes f JOIN disks d ON d.id = f.disk WHERE ${where('f.volume')}`,
      values,
    );
  }

  private ownedTags(sql: Sql, only: string | null): Promise<(OwnedTag & Record<string, unknown>)[]> {
    const { where, values } = about(only);
    return sql.query(
      `SELECT t.volume, t.id, t.name, d.project, t.state = 'ready' AND d.state <> 'deleting' AS complete
       FROM tags t JOIN disks d ON d.id = t.disk WHERE ${where('t.volume')}`,
      values,
    );
  }
}

/** One volume, or all. Two statements: PostgreSQL finds no index for "all, or this one" in a statement that it plans once for both. */
const about = (only: string | null) => ({
  where: (column: string) => (only === null ? 'true' : `${column} = $1`),
  values: only === null ? [] : [only],
});

/** By a hash: names of the storage may be longer than a cursor, and hold what it may not. */
const inOrder = (findings: Finding[]) =>
  findings
    .map((finding) => ({ place: createHash('sha256').update(keyOf(finding)).digest('hex'), finding }))
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));

const keyOf = ({ kind, volume, tag }: Pick<Finding, 'kind' | 'volume' | 'tag'>) => `${kind} ${volume} ${tag ?? ''}`;

function fromStorage(volumes: VolumeInfo[], owned: Map<string, Owned>, tags: OwnedTag[]): Difference[] {
  const known = new Set(tags.map(({ volume, id }) => `${volume} ${storageTag(id)}`));
  return volumes.flatMap(({ name: volume, kind, project, tags: there }): Difference[] => {
    const owner = owned.get(volume);
    const base = { volume, tag: null, project };
    if (!owner) {
      const explanation =
        kind === 'partial'
          ? 'An interrupted command left it incomplete, and nothing in the database refers to it'
          : `It is a ${kind} volume, and no image and no disk in the database is stored in it`;
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
          ? { explanation: `A tag of the ${owner.what} that is not in the database`, repair: 'remove the tag' }
          : {
              explanation: `Somebody else made a snapshot of the ${owner.what}, so the volume cannot be removed`,
              repair: null,
            }),
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
      explanation: `The ${what} is in the database, and its volume is not in the storage: restore it from a backup, or delete the ${what}`,
      repair: null,
    }));
  const lostTags = tags
    .filter(({ volume, id, complete }) => complete && there.get(volume)?.tags.includes(storageTag(id)) === false)
    .map(({ volume, id, name, project }) => ({
      kind: 'tag_missing' as const,
      volume,
      tag: storageTag(id),
      project,
      explanation: `The tag "${name}" is in the database, and not in the storage: delete the tag`,
      repair: null,
    }));
  return [...lost, ...lostTags];
}
