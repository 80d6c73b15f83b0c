import {
  type BootConfig,
  bootRefused,
  bootReport,
  bootScriptServed,
  exportCredentials,
  M2Error,
  nodeBooted,
  type ReplyOf,
} from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { createHash, randomBytes } from 'node:crypto';
import { configByMac, type ConfigRow, refOf } from './config-store.js';

const hashOf = (token: string) => createHash('sha256').update(token).digest();
const credentialsMs = 5_000;
const refusalEveryMs = 60_000;

export type Refusal = 'unknown' | 'other-address';

export type ScriptAnswer =
  { boot: { config: ConfigRow; login: ReplyOf<typeof exportCredentials> } } | { refused: Refusal } | { later: string };

/**
 * The boots in progress, as nodes see them: script, metadata, phone-home.
 *
 * A MAC address proves nothing. So the first address that fetches the script of an armed nic counts as the node, and no other address gets
 * the script (it holds a secret), the metadata or a way to phone home. When the node restarts by itself, from that address, another
 * boot of the same configuration begins.
 */
@Injectable()
export class Boots {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /** What to answer firmware that asks for the script of `mac` from `address`. */
  async script(mac: string, address: string): Promise<ScriptAnswer> {
    const config = await configByMac(this.kit.database, mac);
    if (!config) return { refused: 'unknown' };
    if (config.address && config.address !== address) {
      await this.refuse(config, address);
      return { refused: 'other-address' };
    }
    let login: ReplyOf<typeof exportCredentials>;
    try {
      const { export: exportId, project } = config;
      login = await this.kit.bus.request(exportCredentials, { exportId, project }, { deadlineMs: credentialsMs });
    } catch (error) {
      return { later: M2Error.from(error).code };
    }
    // Only the first of two addresses that ask at the same moment binds the script to itself.
    return (await this.markServed(config, address)) ? { boot: { config, login } } : { refused: 'other-address' };
  }

  private markServed(config: ConfigRow, address: string): Promise<boolean> {
    return this.kit.transact(async (sql, emit) => {
      const rows = await sql.query<{ id: string }>(
        `UPDATE boot_configs SET state = 'script_served', address = $2, script_served_at = now(), booted_at = NULL, phone_home_hash = NULL
         WHERE id = $1 AND (address IS NULL OR address = $2) RETURNING id`,
        [config.id, address],
      );
      if (rows.length > 0) emit(bootScriptServed, refOf(config), { entity: config.id, project: config.project });
      return rows.length > 0;
    });
  }

  /** When who was refused what was last put on record: an address that asks without end must not fill anybody's audit. */
  private readonly refusals = new Map<string, number>();

  private async refuse(config: ConfigRow, address: string): Promise<void> {
    const key = `${config.id} ${address}`;
    if (performance.now() - (this.refusals.get(key) ?? -Infinity) < refusalEveryMs) return;
    if (this.refusals.size > 10_000) this.refusals.clear();
    this.refusals.set(key, performance.now());
    this.kit.log.warn({ mac: config.mac, from: address }, 'the script of a nic was asked for from another address');
    const reason = 'The script went to another address before';
    await this.kit.transact(async (_sql, emit) =>
      emit(bootRefused, { ...refOf(config), reason, from: address }, { entity: config.id, project: config.project }),
    );
  }

  /** What the node's own system may know, and a new one-time token to phone home with; undefined when no boot is in progress. */
  async metadata(mac: string, address: string): Promise<{ node: string; phoneHome: string } | undefined> {
    const token = randomBytes(24).toString('base64url');
    const [row] = await this.kit.database.query<{ node_name: string }>(
      `UPDATE boot_configs SET phone_home_hash = $3 WHERE mac = $1 AND address = $2 AND state = 'script_served' RETURNING node_name`,
      [mac, address, hashOf(token)],
    );
    return row && { node: row.node_name, phoneHome: `/boot/phone-home/${token}` };
  }

  /** Ends the boot. Answers false for a token that is used up, was replaced, or never was. */
  async phoneHome(token: string, address: string, report: unknown): Promise<boolean> {
    const parsed = bootReport.safeParse(report);
    const kept: BootConfig['report'] = { ...(parsed.success ? parsed.data : {}), address };
    return this.kit.transact(async (sql, emit) => {
      const [row] = await sql.query<ConfigRow & Record<string, unknown>>(
        `UPDATE boot_configs SET state = 'booted', booted_at = now(), phone_home_hash = NULL, report = $3
         WHERE phone_home_hash = $1 AND address = $2 AND state = 'script_served' RETURNING id, project, provision, node, mac`,
        [hashOf(token), address, JSON.stringify(kept)],
      );
      if (row) emit(nodeBooted, { ...refOf(row), report: kept }, { entity: row.id, project: row.project });
      return row !== undefined;
    });
  }
}
