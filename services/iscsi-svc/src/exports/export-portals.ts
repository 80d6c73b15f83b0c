import { type Kit, KIT, type Sql } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { setTimeout as delay } from 'node:timers/promises';
import type { IscsiConfig } from '../config.js';
import { type Portal, TargetError } from '../targets/target.port.js';

/** PostgreSQL's NOTIFY channel that says which export changed, and which host changed it: "ID HOST". */
export const CHANNEL = 'm2_exports';

/** A host that was silent for this long (several heartbeats) counts as dead: nobody waits for it. */
const LIVING = `seen_at > now() - interval '10 seconds'`;
const POLL_MS = 20;
/** A living host creates a target in a tenth of a second. */
const MAKING_MS = 5_000;

/** The portals of an export, from all hosts. Living hosts first, because initiators try them in this order. */
export const PORTALS_OF_EXPORT = `(
  SELECT coalesce(jsonb_agg(each.portal ORDER BY coalesce(${LIVING}, false) DESC, host, each.at), '[]')
  FROM export_portals LEFT JOIN portal_hosts USING (host), jsonb_array_elements(portals) WITH ORDINALITY AS each(portal, at)
  WHERE export = exports.id)`;

/**
 * Which host has a target for which export. Every host exports a disk that all can open (RBD): the replica that is asked creates its own
 * target and tells the others. A file is on one machine, and only its host exports it.
 */
@Injectable()
export class ExportPortals {
  /** This host's. */
  readonly host: string;
  /** Exports that this replica is deleting. */
  readonly removing = new Set<string>();

  constructor(@Inject(KIT) private readonly kit: Kit<IscsiConfig>) {
    this.host = kit.config.portalHost;
  }

  /**
   * Records that this host is about to create its target, so that whoever deletes the export waits for it. Returns undefined when the
   * export is being deleted: create none. Otherwise returns whether this host had a target before.
   */
  async begin(id: string): Promise<{ before: boolean } | undefined> {
    const [row] = await this.kit.database.query<{ before: boolean }>(
      `INSERT INTO export_portals (export, host) SELECT id, $2 FROM exports WHERE id = $1 AND state <> 'deleting'
       ON CONFLICT (export, host) DO UPDATE SET host = excluded.host RETURNING portals <> '[]' AS before`,
      [id, this.host],
    );
    return row;
  }

  /** This host has its target, of a disk that no other host exports. */
  async keep(sql: Sql, id: string, portals: Portal[]): Promise<void> {
    await sql.query('UPDATE export_portals SET portals = $3 WHERE export = $1 AND host = $2', [
      id,
      this.host,
      JSON.stringify(portals),
    ]);
  }

  /** This host has its target. Tells the others. */
  async made(sql: Sql, id: string, portals: Portal[]): Promise<void> {
    await sql.query(
      `WITH made AS (UPDATE export_portals SET portals = $3 WHERE export = $1 AND host = $2)
       SELECT pg_notify('${CHANNEL}', $1::text || ' ' || $2)`,
      [id, this.host, JSON.stringify(portals)],
    );
  }

  /** Tells all hosts that an export has changed. */
  async tell(sql: Sql, id: string): Promise<void> {
    await sql.query(`SELECT pg_notify('${CHANNEL}', $1 || ' ' || $2)`, [id, this.host]);
  }

  /** This host has no target any more. */
  async gone(sql: Sql, id: string): Promise<void> {
    await sql.query('DELETE FROM export_portals WHERE export = $1 AND host = $2', [id, this.host]);
  }

  async of(sql: Sql, id: string): Promise<Portal[]> {
    const [row] = await sql.query<{ portals: Portal[] }>(
      `SELECT ${PORTALS_OF_EXPORT} AS portals FROM exports WHERE id = $1`,
      [id],
    );
    return row?.portals ?? [];
  }

  /** Waits until every living host has its target, and not for ever: a node boots from those that exist. */
  async untilEverywhere(sql: Sql, id: string, deadlineMs: number): Promise<void> {
    await this.waitFor(sql, id, Math.min(deadlineMs, MAKING_MS), (has) => has === 'target');
  }

  /**
   * Waits until no living host has a target, because the disk may be given to somebody else next. Throws TargetError `target.unreachable`.
   */
  async untilNowhere(sql: Sql, id: string, deadlineMs: number): Promise<void> {
    const left = await this.waitFor(sql, id, deadlineMs, (has) => has === 'nothing');
    if (left.length === 0) return;
    throw new TargetError('target.unreachable', `${left.join(', ')} has not removed its target yet; see its log`);
  }

  /**
   * The same for hosts that are away as well: their targets may go on without their service. Throws TargetError `target.unreachable`.
   */
  async untilNowhereAtAll(sql: Sql, id: string, deadlineMs: number): Promise<void> {
    const left = await untilNone(deadlineMs, async () => {
      const rows = await sql.query<{ host: string }>(
        'SELECT host FROM export_portals WHERE export = $1 AND host <> $2 ORDER BY host',
        [id, this.host],
      );
      return rows.map(({ host }) => host);
    });
    if (left.length === 0) return;
    throw new TargetError(
      'target.unreachable',
      `${left.join(', ')} may still have its target, and the node was not seen off: start iscsi-svc there, so that it removes it`,
    );
  }

  /** The living hosts for which it is still not so at the end. */
  private waitFor(
    sql: Sql,
    id: string,
    deadlineMs: number,
    isSo: (has: 'target' | 'intention' | 'nothing') => boolean,
  ): Promise<string[]> {
    return untilNone(deadlineMs, async () => {
      const hosts = await sql.query<{ host: string; has: 'target' | 'intention' | 'nothing' }>(
        `SELECT portal_hosts.host, CASE WHEN portals IS NULL THEN 'nothing' WHEN portals = '[]' THEN 'intention' ELSE 'target' END AS has
         FROM portal_hosts LEFT JOIN export_portals ON export_portals.host = portal_hosts.host AND export = $1
         WHERE portal_hosts.host <> $2 AND ${LIVING}`,
        [id, this.host],
      );
      return hosts.filter(({ has }) => !isSo(has)).map(({ host }) => host);
    });
  }
}

/** Looks again and again until there are none, or the time is over. Returns those that are left. */
async function untilNone(deadlineMs: number, look: () => Promise<string[]>): Promise<string[]> {
  for (const deadline = performance.now() + deadlineMs; ; await delay(POLL_MS)) {
    const left = await look();
    if (left.length === 0 || performance.now() > deadline) return left;
  }
}
