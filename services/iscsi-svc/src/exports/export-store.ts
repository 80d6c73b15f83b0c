import { M2Error } from '@m2/contracts';
import { type Kit, KIT, pageWithin, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { randomBytes } from 'node:crypto';
import { InjectRepository } from '@nestjs/typeorm';
import { LessThan, type Repository } from 'typeorm';
import type { IscsiConfig } from '../config.js';
import type { BackingStore } from '../backings/rbd-disk.js';
import type { Portal } from '../targets/target.port.js';
import type { DiskSpec } from './disk-targets.js';
import { ExportEntity, toExport } from './export.entity.js';
import { PORTALS_OF_EXPORT } from './export-portals.js';

/** An export with the portals that it has on all hosts. */
export type ExportRow = ExportEntity & { portals: Portal[] };

/** An export, from the view of one of its hosts. */
export type HostRow = ExportRow & { begun: boolean };

@Injectable()
export class ExportStore {
  /** Those of `ExportEntity` and of `ExportRow`, in statements on `exports`. */
  readonly columns: string;
  private readonly withPortals: string;

  constructor(
    @Inject(KIT) private readonly kit: Kit<IscsiConfig>,
    @InjectRepository(ExportEntity) private readonly repository: Repository<ExportEntity>,
  ) {
    this.columns = kit.database.columns(ExportEntity, 'exports');
    this.withPortals = `${this.columns}, ${PORTALS_OF_EXPORT} AS portals`;
  }

  /** Plain SQL: on the connection of the command, and the portals come with it. */
  async row(sql: Sql, id: string): Promise<ExportRow | undefined> {
    const [row] = await sql.query<ExportRow>(`SELECT ${this.withPortals} FROM exports WHERE id = $1`, [id]);
    return row;
  }

  /** An export of a project. Throws M2Error `export.not_found`, also for another project's. */
  async find(id: string, project: string): Promise<ExportRow> {
    const row = await this.row(this.kit.database, id);
    if (!row || row.project !== project) throw new M2Error('export.not_found', `There is no export ${id}`);
    return row;
  }

  async list(filter: { project: string; cursor?: string | undefined; limit: number }) {
    const entities = await this.repository.find({
      where: { project: filter.project, ...(filter.cursor && { id: LessThan(filter.cursor) }) },
      order: { id: 'DESC' },
      take: filter.limit + 1,
    });
    const portals = await this.kit.database.query<{ id: string; portals: Portal[] }>(
      `SELECT id, ${PORTALS_OF_EXPORT} AS portals FROM exports WHERE id = ANY($1)`,
      [entities.map(({ id }) => id)],
    );
    const portalsOf = new Map(portals.map((row) => [row.id, row.portals]));
    return pageWithin(
      entities,
      filter.limit,
      (entity) => toExport(entity, portalsOf.get(entity.id) ?? []),
      ({ id }) => id,
    );
  }

  /**
   * All exports that concern this host: those with a target of its own, existing or soon, and those that every host exports. `begun`: this
   * host has recorded that it creates its target.
   */
  ofHost(only: { project?: string; id?: string } = {}): Promise<HostRow[]> {
    const { portalHost, cephConf } = this.kit.config;
    return this.kit.database.search(
      `SELECT ${this.withPortals}, own.host IS NOT NULL AS begun
       FROM exports LEFT JOIN export_portals own ON own.export = id AND own.host = $1
       WHERE (own.host IS NOT NULL OR backing ->> 'type' = 'rbd' AND $2)
         AND ($3::uuid IS NULL OR project = $3) AND ($4::uuid IS NULL OR id = $4)`,
      [portalHost, cephConf !== undefined, only.project ?? null, only.id ?? null],
    );
  }

  /** Whether an export that is not being deleted has this IQN. */
  async isWanted(iqn: string): Promise<boolean> {
    const rows = await this.kit.database.query(`SELECT 1 FROM exports WHERE iqn = $1 AND state <> 'deleting'`, [iqn]);
    return rows.length > 0;
  }

  /** Whether a project has exports that are not being deleted. */
  async hasAny(project: string): Promise<boolean> {
    const rows = await this.kit.database.query(
      `SELECT 1 FROM exports WHERE project = $1 AND state <> 'deleting' LIMIT 1`,
      [project],
    );
    return rows.length > 0;
  }

  /** What the exports of a project open, in any state. */
  async backings(project: string): Promise<BackingStore[]> {
    const rows = await this.kit.database.query<{ backing: BackingStore }>(
      'SELECT backing FROM exports WHERE project = $1',
      [project],
    );
    return rows.map(({ backing }) => backing);
  }

  /** What a target is made from, with the secret decrypted. */
  specOf(row: ExportEntity): DiskSpec {
    const secret = this.kit.secrets.open(row.chapSecret, `chap ${row.id}`);
    const { project: pool, iqn, backing, initiator, chapUser: user } = row;
    return { pool, iqn, backing, initiator, chap: { user, secret } };
  }

  /**
   * A new CHAP user and secret: 96 random bits, the minimum of RFC 7143 section 12.1.3. In hexadecimal, because the secret goes through
   * boot scripts, where a dash or a blank would have a meaning.
   */
  newChap(id: string): { user: string; sealed: Buffer } {
    const secret = randomBytes(12).toString('hex');
    return { user: `m2-${id.replaceAll('-', '').slice(-16)}`, sealed: this.kit.secrets.seal(secret, `chap ${id}`) };
  }

  /** The portals as the nodes see them. */
  advertised(portals: Portal[]): Portal[] {
    const { portalAddresses, portalAdvertised } = this.kit.config;
    return portals.map(({ address, port }) => {
      const at = portalAddresses.indexOf(address);
      return { address: portalAdvertised?.[at] ?? address, port };
    });
  }
}

/** Whether every host exports it: a disk in the cluster is the same everywhere, a file is on one machine. */
export const isShared = ({ backing }: ExportEntity): boolean => backing.type === 'rbd';
