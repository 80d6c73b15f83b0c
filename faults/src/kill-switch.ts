import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const preload = fileURLToPath(new URL('./kill-point.mjs', import.meta.url));

/** A point in a service's life, as the service publishes it (see kill-point.mjs). */
export interface KillPoint {
  channel: 'm2:operation:step' | 'm2:command';
  at: Record<string, string>;
  /** The process to kill then, where it is not the service itself. */
  victim?: number;
}

/** Kills a service, or another process, at a point that the test names, once for each order. */
export class KillSwitch {
  /** `file` belongs to this switch alone. */
  constructor(private readonly file: string) {}

  /** For the service that is to die. */
  get environment(): Record<string, string> {
    return { NODE_OPTIONS: `--import=${preload}`, FAULT_ORDER: this.file };
  }

  arm(point: KillPoint): void {
    this.disarm();
    // By renaming, so that the service never reads half an order.
    writeFileSync(`${this.file}.new`, JSON.stringify(point));
    renameSync(`${this.file}.new`, this.file);
  }

  /** True when the last order was carried out: a test whose point was never reached has shown nothing. */
  get struck(): boolean {
    return existsSync(`${this.file}.done`);
  }

  disarm(): void {
    for (const file of [this.file, `${this.file}.done`]) rmSync(file, { force: true });
  }
}
