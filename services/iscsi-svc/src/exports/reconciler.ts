import { exportRestored } from '@m2/contracts';
import { type Kit, KIT, meter, Periodic } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { IscsiConfig } from '../config.js';
import type { Backings, ShownImage } from '../backings/backings.js';
import type { ObservedExport, TargetDriver } from '../targets/target.port.js';
import { Locks } from '@m2/locks';
import { BACKINGS, DiskTargets, TARGETS } from './disk-targets.js';
import { ExportPortals } from './export-portals.js';
import type { ExportEntity } from './export.entity.js';
import { ExportStore, type HostRow } from './export-store.js';
import { OrphanWatch } from './orphan-watch.js';
import { PortalHost } from './portal-host.js';

/**
 * Compares what the target has with what it should have, and repairs it: at start, when a tgtd or a storage daemon died, when a disk's path
 * was lost, and periodically.
 */
@Injectable()
export class Reconciler implements OnModuleInit, OnApplicationShutdown {
  private readonly rounds: Periodic;
  /**
   * One lock per project: two repairs of the same export would take each other's unfinished target for drift. A project whose storage
   * hangs blocks only itself.
   */
  private readonly locks = new Locks();
  private readonly orphanTargets = new OrphanWatch();
  private readonly orphanImages = new OrphanWatch();
  private readonly repairs = meter().createCounter('m2_export_repairs', { description: 'Exports that were put back' });

  constructor(
    @Inject(KIT) private readonly kit: Kit<IscsiConfig>,
    @Inject(ExportStore) private readonly exports: ExportStore,
    @Inject(TARGETS) private readonly targets: TargetDriver,
    @Inject(BACKINGS) private readonly backings: Backings,
    @Inject(DiskTargets) private readonly disks: DiskTargets,
    @Inject(ExportPortals) private readonly portals: ExportPortals,
    @Inject(PortalHost) private readonly host: PortalHost,
  ) {
    this.rounds = new Periodic({
      everyMs: kit.config.reconcileSeconds * 1_000,
      work: () => this.reconcileAll(),
      onError: (error) => this.logFailure(error),
    });
  }

  onModuleInit(): void {
    this.targets.onInstanceLost((pool) => {
      this.kit.log.warn({ project: pool }, 'a tgtd died; its exports are put back');
      void this.inTurn(pool, () => this.restore(pool));
    });
    this.backings.onLost((pool) => {
      this.kit.log.warn({ project: pool }, 'a storage daemon died; its disks are put back');
      void this.inTurn(pool, () => this.restore(pool));
    });
    this.host.onChange((id) => void this.changed(id).catch((error: unknown) => this.logFailure(error)));
    this.rounds.start();
    this.rounds.wake();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.rounds.stop();
    await this.locks.settled();
    await this.targets.close();
    await this.backings.close();
  }

  private inTurn(project: string, work: () => Promise<void>): Promise<void> {
    return this.locks.exclusive(project, work).catch((error: unknown) => this.logFailure(error));
  }

  private logFailure(err: unknown): void {
    this.kit.log.error({ err }, 'reconciling failed; it is tried again');
  }

  private async reconcileAll(): Promise<void> {
    const rows = Map.groupBy(await this.exports.ofHost(), (row) => row.project);
    const projects = new Set([...rows.keys(), ...this.targets.pools(), ...this.backings.pools()]);
    for (const watch of [this.orphanTargets, this.orphanImages]) watch.keep(projects);
    await Promise.all(
      [...projects].map((project) => this.inTurn(project, () => this.reconcile(project, rows.get(project) ?? []))),
    );
  }

  private async reconcile(project: string, rows: HostRow[]): Promise<void> {
    // First, because it takes over daemons from before a restart, or finds them dead.
    const images = await this.backings.observe(project);
    const observed = await this.targets.observe(project);
    const found = new Map(observed.map((target) => [target.iqn, target]));
    for (const row of rows) {
      const path = this.backings.path(project, row.backing);
      // Another replica or command may still be creating it: leave it alone.
      if (row.state === 'ready' && drifted(row, path, found.get(row.iqn))) await this.putBack(row);
      else await this.follow(row);
    }
    await this.removeOrphans(project, new Set(rows.map((row) => row.iqn)), observed);
    await this.closeOrphans(project, rows, images);
  }

  private async restore(project: string): Promise<void> {
    const rows = await this.exports.ofHost({ project });
    await Promise.all(rows.map((row) => this.putBack(row)));
  }

  /** Does what another host has begun: creates this host's target of a shared disk, or removes it. */
  private async follow({ id, state, begun }: HostRow): Promise<void> {
    if (state !== 'deleting' && !begun) await this.putBack({ id });
    if (state === 'deleting' && begun && !this.portals.removing.has(id)) await this.remove(id);
  }

  private async remove(id: string): Promise<void> {
    try {
      const row = await this.exports.row(this.kit.database, id);
      if (row?.state !== 'deleting') return;
      await this.disks.ensureNone(this.exports.specOf(row));
      await this.portals.gone(this.kit.database, id);
    } catch (error) {
      this.kit.log.error({ err: error, export: id }, 'an export could not be removed; it is tried again');
    }
  }

  private async changed(id: string): Promise<void> {
    const row = await this.exports.row(this.kit.database, id);
    if (!row) return;
    await this.inTurn(row.project, async () => {
      const [now] = await this.exports.ofHost({ id });
      if (now) await this.follow(now);
    });
  }

  /** Includes an export that is being created: its target may be lost before the row says that it exists. */
  private async putBack({ id: rowId }: Pick<ExportEntity, 'id'>): Promise<void> {
    try {
      const row = await this.exports.row(this.kit.database, rowId);
      const begun = row && (await this.portals.begin(rowId));
      if (!begun) return;
      const made = this.exports.advertised(await this.disks.ensure(this.exports.specOf(row)));
      // The export may have been deleted before the target was back: then the target has no owner.
      const still = await this.exports.row(this.kit.database, rowId);
      if (!still || still.state === 'deleting') {
        // The same disk may have a new export with the same name: then the next round makes the target match it.
        if (await this.exports.isWanted(row.iqn)) void this.inTurn(row.project, () => this.restore(row.project));
        else await this.disks.ensureNone(this.exports.specOf(row));
        await this.portals.gone(this.kit.database, rowId);
        return;
      }
      await this.portals.made(this.kit.database, rowId, made);
      if (row.state === 'creating' || !begun.before) return;
      this.repairs.add(1);
      const { id, project, disk, iqn } = row;
      await this.kit.transact(async (_sql, emit) =>
        emit(exportRestored, { id, project, disk, iqn }, { entity: id, project }),
      );
    } catch (error) {
      this.kit.log.error({ err: error, export: rowId }, 'an export could not be put back; it is tried again');
    }
  }

  private async removeOrphans(project: string, wanted: Set<string>, observed: ObservedExport[]): Promise<void> {
    const orphans = observed
      .map(({ iqn }) => iqn)
      .filter((iqn) => iqn.startsWith('iqn.2018-10.io.m2:') && !wanted.has(iqn));
    for (const iqn of this.orphanTargets.overdue(project, orphans)) {
      // The disk may have been exported again since this round began.
      if (await this.exports.isWanted(iqn)) continue;
      this.kit.log.warn({ iqn, project }, 'a target without an export is removed');
      await this.targets.ensureNoExport(project, iqn);
    }
  }

  private async closeOrphans(project: string, rows: ExportEntity[], images: ShownImage[]): Promise<void> {
    const explained = new Set(rows.map(({ backing }) => this.backings.path(project, backing)));
    const orphans = images.map(({ path }) => path).filter((path) => !explained.has(path));
    for (const orphan of this.orphanImages.overdue(project, orphans)) {
      const paths = (await this.exports.backings(project)).map((backing) => this.backings.path(project, backing));
      if (paths.includes(orphan)) continue;
      const { backing } = images.find(({ path }) => path === orphan)!;
      this.kit.log.warn({ backing, project }, 'an image without an export is closed');
      await this.backings.ensureNoFile(project, backing);
    }
  }

  /** The file is a new one at the same path. A LUN that holds the old one open returns only errors. */
  reopen(rows: Pick<ExportEntity, 'id' | 'project'>[]): void {
    // It is not removed first: a tenant's portal goes with its last target, and its node knows no other.
    for (const row of rows) void this.inTurn(row.project, () => this.putBack(row));
  }
}

/** Compares everything that the target shows; it does not show the CHAP secret. */
function drifted(row: ExportEntity, path: string, target: ObservedExport | undefined): boolean {
  if (!target) return true;
  const same = (list: string[], only: string) => list.length === 1 && list[0] === only;
  return target.backingPath !== path || !same(target.initiators, row.initiator) || !same(target.accounts, row.chapUser);
}
