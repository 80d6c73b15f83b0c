import {
  errorCatalogue,
  isErrorCode,
  type Operation,
  type OperationKind,
  type OperationStep,
  type StepState,
} from '@m2/contracts';
import type { Screen } from '../world.js';
import { amountOf, percent } from './progress.js';
import { clean, type Style } from './style.js';
import { formatDuration } from './units.js';

/*
 * Not listr2: its task goes from pending to one end, once, as a promise settles. A step of ours comes from the server, may go
 * from done to undoing to undone, and runs beside others; the view is drawn from the operation as a whole each time.
 */

/** Shows an operation while it goes on. */
export interface StepView {
  update: (operation: Operation) => void;
  /** Leaves what was shown last on the screen. */
  end: () => void;
}

/** Redrawn in place on a terminal, one line for each change elsewhere. */
export function stepView(screen: Screen, style: Style, env: Readonly<Record<string, string | undefined>>): StepView {
  return screen.isTTY && env.TERM !== 'dumb' ? new LiveView(screen, style) : new LineView(screen);
}

const marks: Record<StepState, string> = {
  waiting: '·',
  running: '▸',
  unknown: '?',
  done: '✔',
  skipped: '-',
  failed: '✖',
  undoing: '◂',
  undone: '↶',
};
const spinner = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const moving = (state: StepState) => state === 'running' || state === 'undoing';

/** Seconds that a step took, or takes so far; on the way back, those of its undo. */
function elapsed(step: OperationStep): string {
  const [startedAt, endedAt] =
    step.undoStartedAt === null ? [step.startedAt, step.endedAt] : [step.undoStartedAt, step.undoEndedAt];
  if (startedAt === null) return '';
  // oxlint-disable-next-line no-restricted-properties -- compared with a time of the API
  return formatDuration((endedAt === null ? Date.now() : Date.parse(endedAt)) - Date.parse(startedAt));
}

const countsBytes = new Set<OperationKind>(['image.import', 'image.export', 'disk.flatten']);

/** `fetch 12 MiB of 48 MiB, 25%` where bytes are counted; elsewhere the words alone say how far it is. */
export function formatProgress(
  { done, total, text }: NonNullable<OperationStep['progress']>,
  kind: OperationKind,
): string {
  if (!countsBytes.has(kind)) return text || (total === null ? '' : `${done} of ${total}`);
  return [text, amountOf(done, total)].filter(Boolean).join(' ');
}

function whatHappened(step: OperationStep, kind: OperationKind): string {
  if (step.error) return `${step.error.detail} (${step.error.code})`;
  if (step.progress && moving(step.state)) return formatProgress(step.progress, kind);
  return step.state === 'running' && step.attempts > 1 ? `attempt ${step.attempts}` : '';
}

class LiveView implements StepView {
  #operation: Operation | undefined;
  #drawn = 0;
  #frame = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(
    private readonly screen: Screen,
    private readonly style: Style,
  ) {
    this.#timer = setInterval(() => this.#draw(), 100);
    // The spinner keeps no command alive that has nothing else to do.
    this.#timer.unref();
  }

  update(operation: Operation): void {
    this.#operation = operation;
    this.#draw();
  }

  end(): void {
    clearInterval(this.#timer);
  }

  #draw(): void {
    if (!this.#operation) return;
    this.#frame += 1;
    const { kind, steps } = this.#operation;
    // A terminal that does not know its size says 0.
    const columns = this.screen.columns || 80;
    const rows = this.screen.rows || 24;
    const width = Math.max(0, ...steps.map(({ name }) => name.length));
    // What scrolled out of the window cannot be redrawn: of a long list the end is shown.
    const lines = steps.slice(-Math.max(1, rows - 2)).map((step) => this.#line(step, kind, width, columns));
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : '';
    this.screen.write(`${up}${lines.map((line) => `\r\u001b[2K${line}\n`).join('')}`);
    this.#drawn = lines.length;
  }

  #line(step: OperationStep, kind: OperationKind, width: number, columns: number): string {
    const mark = moving(step.state) ? (spinner[this.#frame % spinner.length] as string) : marks[step.state];
    const text = `${clean(step.name).padEnd(width)}  ${elapsed(step).padStart(10)}  ${clean(whatHappened(step, kind))}`;
    // A line that wraps would be two lines to the cursor.
    const shown = text.slice(0, Math.max(0, columns - 5)).trimEnd();
    return `  ${this.#paint(step.state)(mark)} ${step.state === 'waiting' ? this.style.dim(shown) : shown}`;
  }

  #paint(state: StepState) {
    if (state === 'done') return this.style.green;
    if (state === 'failed') return this.style.red;
    return moving(state) || state === 'unknown' ? this.style.yellow : this.style.dim;
  }
}

class LineView implements StepView {
  readonly #said = new Map<string, string>();

  constructor(private readonly screen: Screen) {}

  update({ kind, steps }: Operation): void {
    for (const step of steps) {
      // Progress is said in tenths: a log is not a progress bar.
      const { done = 0, total, text = '' } = step.progress ?? {};
      const tenth = total ? Math.floor(percent(done, total) / 10) : '';
      const now = moving(step.state) ? `${step.state} ${step.attempts} ${text} ${tenth}` : step.state;
      if (step.state === 'waiting' || this.#said.get(step.name) === now) continue;
      this.#said.set(step.name, now);
      this.screen.write(`${this.#line(step, kind)}\n`);
      if (step.error && broke(step)) this.screen.write(`    try: ${remedy(step.error.code)}\n`);
    }
  }

  end(): void {}

  #line(step: OperationStep, kind: OperationKind): string {
    // The error is said when it happens; undoing what it left does not repeat it.
    const what = step.error && !broke(step) ? '' : whatHappened(step, kind);
    const about = [moving(step.state) ? '' : elapsed(step), what].filter(Boolean).join(', ');
    return clean(`  ${step.name}: ${step.state}${about && ` (${about})`}`);
  }
}

const broke = ({ state }: OperationStep) => state === 'failed' || state === 'unknown';
const remedy = (code: string) => errorCatalogue[isErrorCode(code) ? code : 'internal'].remedy;
