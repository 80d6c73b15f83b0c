import { diskReattached, exportRestored } from '@m2/contracts';
import { Consumes, type Kit, KIT, meter, type ReceivedEvent, type Sql } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { IscsiConfig } from '../config.js';
import type { ObservedExport, TargetDriver } from '../targets/target.port.js';
import { TARGETS } from './export-handlers.js';
import { type ExportRow, ExportStore } from './export-store.js';

/** A target that no row explains may belong to a command that is just being carried out; it is removed when it stays. */
const orphanGraceMs = 120_000;

/** Makes the target have what it should: at start, when a tgtd died, when a disk's path was lost, and every now and then. */
@Injectable()
export class Reconciler implements OnModuleInit, OnApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> = Promise.resolve();
  private readonly orphansSince = new Map<string, number>();
  private readonly repairs = meter().createCounter('m2_export_repairs', { description: 'Exports that were put back' });

  constructor(
    @Inject(KIT) private readonly kit: Kit<IscsiConfig>,
    @Inject(ExportStore) private readonly exports: ExportStore,
    @Inject(TARGETS) private readonly targets: TargetDriver,
  ) {}

  onModuleInit(): void {
    this.targets.onInstanceLost((pool) => {
      this.kit.log.warn({ project: pool }, 'a tgtd died; its exports are put back');
      this.enqueue(() => this.restore(pool));
    });
    this.timer = setInterval(() => this.enqueue(() => this.reconcile()), this.kit.config.reconcileSeconds * 1_000);
    this.enqueue(() => this.reconcile());
  }

  async onApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    await this.running;
    await this.targets.close();
  }

  /** One at a time: two that repair the same export would take each other's half-made target for drift. */
  private enqueue(work: () => Promise<void>): void {
    this.running = this.running.then(work).catch((error: unknown) => {
      this.kit.log.error({ err: error }, 'reconciling failed; it is tried again');
    });
  }

  private async reconcile(): Promise<void> {
    const [wanted, observed] = await Promise.all([this.exports.wanted(), this.targets.observe()]);
    const found = new Map(observed.map((target) => [target.iqn, target]));
    const ready = wanted.filter((row) => row.state === 'ready');
    for (const row of ready) if (drifted(row, found.get(row.iqn))) await this.putBack(row);
    await this.removeOrphans(new Set(wanted.map((row) => row.iqn)), observed);
  }

  private async restore(project: string): Promise<void> {
    const rows = await this.exports.wanted(project);
    await Promise.all(rows.map((row) => this.putBack(row)));
  }

  /** Also an export that is just being made: its target may be lost between its making and the record of it. */
  private async putBack({ id: rowId }: Pick<ExportRow, 'id'>): Promise<void> {
    try {
      const row = await this.exports.row(this.kit.database, rowId);
      if (!row || row.state === 'deleting') return;
      await this.targets.ensureExport(this.exports.specOf(row));
      // It may have been deleted meanwhile, before the target was back: then the target is nobody's.
      const still = await this.exports.row(this.kit.database, rowId);
      if (!still || still.state === 'deleting') {
        // The same disk may be exported anew, under the same name: then the next round makes the target what that export says.
        if (await this.exports.isWanted(row.iqn)) this.enqueue(() => this.reconcile());
        else await this.targets.ensureNoExport(row.project, row.iqn);
        return;
      }
      if (row.state === 'creating') return;
      this.repairs.add(1);
      const { id, project, disk, iqn } = row;
      await this.kit.transact(async (_sql, emit) =>
        emit(exportRestored, { id, project, disk, iqn }, { entity: id, project }),
      );
    } catch (error) {
      this.kit.log.error({ err: error, export: rowId }, 'an export could not be put back; it is tried again');
    }
  }

  private async removeOrphans(wanted: Set<string>, observed: ObservedExport[]): Promise<void> {
    const orphans = observed.filter(({ iqn }) => iqn.startsWith('iqn.2018-10.io.m2:') && !wanted.has(iqn));
    for (const iqn of this.orphansSince.keys())
      if (!orphans.some((orphan) => orphan.iqn === iqn)) this.orphansSince.delete(iqn);
    for (const { pool, iqn } of orphans) {
      const since = this.orphansSince.get(iqn) ?? Date.now();
      this.orphansSince.set(iqn, since);
      if (Date.now() - since < orphanGraceMs) continue;
      // The disk may have been exported again since this round began.
      if (await this.exports.isWanted(iqn)) continue;
      this.kit.log.warn({ iqn, project: pool }, 'a target without an export is removed');
      await this.targets.ensureNoExport(pool, iqn);
    }
  }

  /** The file is a new one at the same path; a LUN that holds the old one open serves nothing but errors. */
  @Consumes({ durable: 'iscsi-reattached', of: diskReattached })
  async reopen(events: ReceivedEvent[], sql: Sql): Promise<void> {
    const disks = events.map(({ data }) => data['id']);
    const rows = await sql.query<{ id: string }>(
      `SELECT id FROM exports WHERE disk = ANY($1) AND state <> 'deleting'`,
      [disks],
    );
    // Not removed first: with a tenant's last target goes its portal, the only one that its node knows.
    for (const row of rows) this.enqueue(() => this.putBack(row));
  }
}

/** Compares all that the target shows; the CHAP secret it does not show. */
function drifted(row: ExportRow, target: ObservedExport | undefined): boolean {
  if (!target) return true;
  const same = (list: string[], only: string) => list.length === 1 && list[0] === only;
  return (
    target.backingPath !== row.backing.path ||
    !same(target.initiators, row.initiator) ||
    !same(target.accounts, row.chap_user)
  );
}
