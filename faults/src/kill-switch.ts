import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const preload = fileURLToPath(new URL('./kill-point.mjs', import.meta.url));

/** A point in a service's life, as the service publishes it (see kill-point.mjs). */
export interface KillPoint {
  channel: 'm2:operation' | 'm2:operation:step' | 'm2:command' | 'm2:rbd';
  at: Record<string, string>;
  /** The process to kill then, where it is not the service itself: its id, or the field of the message that holds it. */
  victim?: number | string;
  /** Pauses it, in place of killing it. */
  signal?: 'SIGSTOP';
  /** Not at that point, but so much later. */
  afterMs?: number;
}

/** Kills a service, or another process, at a point that the test names: once for each order. */
export class KillSwitch {
  /** `file` belongs to this switch alone. */
  constructor(private readonly file: string) {}

  /** The environment of the service that is to be killed. */
  get environment(): Record<string, string> {
    return { NODE_OPTIONS: `--import=${preload}`, FAULT_ORDER: this.file };
  }

  arm(point: KillPoint): void {
    this.disarm();
    this.order(point);
  }

  /** Kills nothing: keeps every message of a channel for `recorded`. */
  record(channel: KillPoint['channel']): void {
    this.disarm();
    writeFileSync(this.log, '');
    this.order({ channel, record: this.log });
  }

  recorded(): Record<string, string>[] {
    this.disarm();
    const lines = readFileSync(this.log, 'utf8').split('\n');
    return lines.filter(Boolean).map((line) => JSON.parse(line) as Record<string, string>);
  }

  /** True when the last order was carried out. A test whose point was never reached has shown nothing. */
  get struck(): boolean {
    return existsSync(`${this.file}.done`);
  }

  private get log(): string {
    return `${this.file}.record`;
  }

  private order(order: object): void {
    // By renaming, so that the service never reads half an order.
    writeFileSync(`${this.file}.new`, JSON.stringify(order));
    renameSync(`${this.file}.new`, this.file);
  }

  disarm(): void {
    for (const file of [this.file, `${this.file}.done`]) rmSync(file, { force: true });
  }
}
