import {
  exportCreate,
  exportCreated,
  exportCredentials,
  exportDelete,
  exportDeleted,
  exportList,
  M2Error,
  type RequestOf,
} from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT, violatesUnique } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import type { IscsiConfig } from '../config.js';
import { DiskTargets } from './disk-targets.js';
import { ExportPortals } from './export-portals.js';
import { type ExportEntity, toExport } from './export.entity.js';
import { ExportStore, isShared } from './export-store.js';
import type { Portal } from '../targets/target.port.js';

@Controller()
export class ExportHandlers {
  constructor(
    @Inject(KIT) private readonly kit: Kit<IscsiConfig>,
    @Inject(ExportStore) private readonly exports: ExportStore,
    @Inject(DiskTargets) private readonly targets: DiskTargets,
    @Inject(ExportPortals) private readonly portals: ExportPortals,
  ) {}

  @Answers(exportList)
  list(filter: RequestOf<typeof exportList>) {
    return this.exports.list(filter);
  }

  /** Only boot-svc may ask: the NATS permissions refuse everybody else. */
  @Answers(exportCredentials)
  async credentials({ exportId, project }: RequestOf<typeof exportCredentials>) {
    const row = await this.exports.find(exportId, project);
    if (row.state !== 'ready') throw new M2Error('export.not_found', `Export ${exportId} is ${row.state}`);
    const { chap } = this.exports.specOf(row);
    return { iqn: row.iqn, lun: 1 as const, initiator: row.initiator, portals: row.portals, ...chap };
  }

  /** The row, with its secret, comes first: reconciling would remove a target without a row. */
  @Handles(exportCreate)
  async create(request: RequestOf<typeof exportCreate>, effect: Effect) {
    const row = await this.record(request, effect);
    // A file's portals are this host's, and no other host is to be told of them.
    const own = isShared(row) ? undefined : await this.makeTarget(row);
    if (!own) await this.makeEverywhere(row, effect);
    const created = effect.commit(async (sql, emit) => {
      const kept = await sql.query(
        `UPDATE exports SET state = 'ready' WHERE id = $1 AND state <> 'deleting' RETURNING id`,
        [row.id],
      );
      if (kept.length === 0) throw deleted(row.id);
      if (own) await this.portals.keep(sql, row.id, own);
      emit(exportCreated, eventOf(row), { entity: row.id, project: row.project });
      return toExport({ ...row, state: 'ready' }, own ?? (await this.portals.of(sql, row.id)));
    });
    return created.catch(async (error: unknown) => {
      if (M2Error.from(error).code === 'export.not_found') await this.takeBack(row);
      throw error;
    });
  }

  /** The command that deleted the export may not have found this host's target yet. A newer export of the disk has the same IQN. */
  private async takeBack(row: ExportEntity): Promise<void> {
    if (!(await this.exports.isWanted(row.iqn))) await this.targets.ensureNone(this.exports.specOf(row));
    await this.portals.gone(this.kit.database, row.id);
  }

  private async makeTarget(row: ExportEntity): Promise<Portal[]> {
    return this.exports.advertised(await this.targets.ensure(this.exports.specOf(row)));
  }

  private async makeHere(row: ExportEntity, effect: Effect): Promise<void> {
    await this.portals.made(effect, row.id, await this.makeTarget(row));
  }

  /**
   * One after the other: ProjectDaemon finds its own client by comparing the clients before and after. When this host fails, the others
   * still export the disk: the host that was asked is not more important than another. Its reconciler goes on trying.
   */
  private async makeEverywhere(row: ExportEntity, effect: Effect): Promise<void> {
    const failure = await this.makeHere(row, effect).catch(async (error: unknown) => {
      await this.portals.tell(effect, row.id);
      return { error };
    });
    // When no host can, tell whoever asked why, before it gives up waiting.
    await this.portals.untilEverywhere(effect, row.id, failure ? effect.remainingMs / 2 : effect.remainingMs);
    if (!failure) return;
    if ((await this.portals.of(effect, row.id)).length === 0) throw failure.error;
    this.kit.log.error({ err: failure.error, export: row.id }, 'this host could not export the disk; other hosts do');
  }

  private async record(request: RequestOf<typeof exportCreate>, effect: Effect): Promise<ExportEntity> {
    const { user, sealed } = this.exports.newChap(request.exportId);
    try {
      const [row] = await effect.query<ExportEntity>(
        `WITH row AS (
           INSERT INTO exports (id, project, disk, iqn, initiator, backing, chap_user, chap_secret, state)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'creating')
           ON CONFLICT (id) DO UPDATE SET backing = excluded.backing WHERE exports.state <> 'deleting'
           RETURNING ${this.exports.columns}),
         host AS (INSERT INTO export_portals (export, host) SELECT id, $9 FROM row ON CONFLICT DO NOTHING)
         SELECT * FROM row`,
        [
          request.exportId,
          request.project,
          request.disk,
          `iqn.2018-10.io.m2:${request.volume}`,
          request.initiator,
          JSON.stringify(request.backing),
          user,
          sealed,
          this.portals.host,
        ],
      );
      if (!row) throw deleted(request.exportId);
      return row;
    } catch (error) {
      if (violatesUnique(error, 'exports_disk') || violatesUnique(error, 'exports_iqn'))
        throw new M2Error('export.conflict', `Disk ${request.disk} is exported already`);
      throw error;
    }
  }

  /** From here and from all living hosts. A dead host removes its target when it comes back; it is waited for when the node may write. */
  private async remove(row: ExportEntity, nodeSeenOff: boolean, effect: Effect): Promise<void> {
    await effect.query(`UPDATE exports SET state = 'deleting' WHERE id = $1`, [row.id]);
    if (isShared(row)) await this.portals.tell(effect, row.id);
    await this.targets.ensureNone(this.exports.specOf(row));
    await this.portals.gone(effect, row.id);
    if (!isShared(row)) return;
    if (nodeSeenOff) await this.portals.untilNowhere(effect, row.id, effect.remainingMs);
    else await this.portals.untilNowhereAtAll(effect, row.id, effect.remainingMs);
  }

  /** The row goes last: as long as it is there, a crash in between is followed by another attempt. */
  @Handles(exportDelete)
  async delete({ exportId, project, nodeSeenOff }: RequestOf<typeof exportDelete>, effect: Effect) {
    const row = await this.exports.row(effect, exportId);
    if (row && row.project === project) {
      this.portals.removing.add(exportId);
      try {
        await this.remove(row, nodeSeenOff, effect);
      } finally {
        this.portals.removing.delete(exportId);
      }
    }
    return effect.commit(async (sql, emit) => {
      if (!row || row.project !== project) return {};
      await sql.query('DELETE FROM exports WHERE id = $1', [exportId]);
      emit(exportDeleted, eventOf(row), { entity: row.id, project: row.project });
      return {};
    });
  }
}

const deleted = (id: string) =>
  new M2Error('export.not_found', `The export ${id} was deleted while it was being created`);

const eventOf = ({ id, project, disk, iqn }: ExportEntity) => ({ id, project, disk, iqn });
