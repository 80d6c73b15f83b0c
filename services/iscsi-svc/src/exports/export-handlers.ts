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
import { Answers, type Effect, Handles, violatesUnique } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { DiskTargets } from './disk-targets.js';
import { type ExportRow, ExportStore, toReply } from './export-store.js';

@Injectable()
export class ExportHandlers {
  constructor(
    @Inject(ExportStore) private readonly exports: ExportStore,
    @Inject(DiskTargets) private readonly targets: DiskTargets,
  ) {}

  @Answers(exportList)
  list(filter: RequestOf<typeof exportList>) {
    return this.exports.list(filter);
  }

  /** For the boot service alone; the message server lets nobody else ask. */
  @Answers(exportCredentials)
  async credentials({ exportId, project }: RequestOf<typeof exportCredentials>) {
    const row = await this.exports.find(exportId, project);
    if (row.state !== 'ready') throw new M2Error('export.not_found', `Export ${exportId} is ${row.state}`);
    const { chap } = this.exports.specOf(row);
    return { iqn: row.iqn, lun: 1 as const, initiator: row.initiator, portals: row.portals, ...chap };
  }

  /** The row, with its secret, comes first: a target without a row would be nobody's, and reconciling would remove it. */
  @Handles(exportCreate)
  async create(request: RequestOf<typeof exportCreate>, effect: Effect) {
    const row = await this.record(request, effect);
    const seen = this.exports.advertised(await this.targets.ensure(this.exports.specOf(row)));
    return effect.commit(async (sql, emit) => {
      await sql.query(`UPDATE exports SET state = 'ready', portals = $2 WHERE id = $1`, [row.id, JSON.stringify(seen)]);
      emit(exportCreated, eventOf(row), { entity: row.id, project: row.project });
      return toReply({ ...row, state: 'ready', portals: seen });
    });
  }

  private async record(request: RequestOf<typeof exportCreate>, effect: Effect): Promise<ExportRow> {
    const { user, sealed } = this.exports.newChap(request.exportId);
    try {
      const [row] = await effect.query<ExportRow & Record<string, unknown>>(
        `INSERT INTO exports (id, project, disk, iqn, initiator, backing, chap_user, chap_secret, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'creating') ON CONFLICT (id) DO UPDATE SET backing = excluded.backing
         RETURNING *`,
        [
          request.exportId,
          request.project,
          request.disk,
          `iqn.2018-10.io.m2:${request.volume}`,
          request.initiator,
          JSON.stringify(request.backing),
          user,
          sealed,
        ],
      );
      return row as ExportRow;
    } catch (error) {
      if (violatesUnique(error, 'exports_disk') || violatesUnique(error, 'exports_iqn'))
        throw new M2Error('export.conflict', `Disk ${request.disk} is exported already`);
      throw error;
    }
  }

  /** The row goes last: as long as it is there, a crash in between is followed by another try. */
  @Handles(exportDelete)
  async delete({ exportId, project }: RequestOf<typeof exportDelete>, effect: Effect) {
    const row = await this.exports.row(effect, exportId);
    if (row && row.project === project) {
      await effect.query(`UPDATE exports SET state = 'deleting' WHERE id = $1`, [exportId]);
      await this.targets.ensureNone(this.exports.specOf(row));
    }
    return effect.commit(async (sql, emit) => {
      if (!row || row.project !== project) return {};
      await sql.query('DELETE FROM exports WHERE id = $1', [exportId]);
      emit(exportDeleted, eventOf(row), { entity: row.id, project: row.project });
      return {};
    });
  }
}

const eventOf = ({ id, project, disk, iqn }: ExportRow) => ({ id, project, disk, iqn });
