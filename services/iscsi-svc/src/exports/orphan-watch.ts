/** An unknown target may belong to a command that is running now. It is removed when it stays for this long. */
const graceMs = 120_000;

/** Remembers since when something is an orphan. */
export class OrphanWatch {
  private readonly since = new Map<string, Map<string, number>>();

  /** Those of a pool's orphans that were orphans at every look, for the grace time. */
  overdue(pool: string, orphans: string[]): string[] {
    const now = this.now();
    const before = this.since.get(pool);
    const since = new Map(orphans.map((orphan) => [orphan, before?.get(orphan) ?? now]));
    if (since.size > 0) this.since.set(pool, since);
    else this.since.delete(pool);
    return orphans.filter((orphan) => now - since.get(orphan)! >= graceMs);
  }

  /** By this process's own clock, which nobody sets. */
  now(): number {
    return performance.now();
  }

  /** Forgets all other pools. */
  keep(pools: Set<string>): void {
    for (const pool of this.since.keys()) if (!pools.has(pool)) this.since.delete(pool);
  }
}
