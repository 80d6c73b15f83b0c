import type { Screen } from '../world.js';
import { formatBytes } from './units.js';

/** How far a transfer is: redrawn in place on a terminal, a line for each tenth elsewhere. */
export interface ProgressBar {
  update: (done: number, total: number | null) => void;
  /** Leaves what was shown last on the screen. */
  end: () => void;
}

const redrawMs = 100;
const width = 30;

export function progressBar(
  screen: Screen,
  what: string,
  env: Readonly<Record<string, string | undefined>>,
): ProgressBar {
  return screen.isTTY && env.TERM !== 'dumb' ? new LiveBar(screen, what) : new LineBar(screen, what);
}

/** `1.2 GiB of 2 GiB, 60%` */
export function amountOf(done: number, total: number | null): string {
  if (total === null) return formatBytes(done);
  return `${formatBytes(done)} of ${formatBytes(total)}, ${percent(done, total)}%`;
}

export const percent = (done: number, total: number) =>
  total === 0 ? 100 : Math.floor((100 * Math.min(done, total)) / total);

class LiveBar implements ProgressBar {
  /** What was there before this run is not of its speed. */
  #first: { at: number; done: number } | undefined;
  #drawnAt = 0;
  #last: [number, number | null] | undefined;

  constructor(
    private readonly screen: Screen,
    private readonly what: string,
  ) {}

  update(done: number, total: number | null): void {
    const now = performance.now();
    this.#first ??= { at: now, done };
    this.#last = [done, total];
    if (now - this.#drawnAt < redrawMs) return;
    this.#drawnAt = now;
    this.#draw(done, total);
  }

  end(): void {
    if (!this.#last) return;
    this.#draw(...this.#last);
    this.screen.write('\n');
  }

  #draw(done: number, total: number | null): void {
    const filled = total === null ? 0 : Math.round((width * percent(done, total)) / 100);
    const bar = total === null ? '' : `${'█'.repeat(filled)}${'░'.repeat(width - filled)}  `;
    const { at, done: before } = this.#first ?? { at: performance.now(), done };
    const seconds = (performance.now() - at) / 1000;
    const speed = seconds < 0.5 ? '' : `, ${formatBytes(Math.round((done - before) / seconds))}/s`;
    const line = `  ${this.what}  ${bar}${amountOf(done, total)}${speed}`;
    // A line that wraps would be two lines to the cursor; a terminal that does not know its size says 0.
    this.screen.write(`\r\u001b[2K${line.slice(0, (this.screen.columns || 80) - 1)}`);
  }
}

class LineBar implements ProgressBar {
  #said = '';

  constructor(
    private readonly screen: Screen,
    private readonly what: string,
  ) {}

  update(done: number, total: number | null): void {
    const step = total === null ? `${Math.floor(done / 2 ** 30)}` : `${Math.floor(percent(done, total) / 10)}`;
    if (step === this.#said) return;
    this.#said = step;
    this.screen.write(`  ${this.what}: ${amountOf(done, total)}\n`);
  }

  end(): void {}
}
