import { describe, expect, it } from 'vitest';
import { operationOf } from '../test/gateway.js';
import { formatProgress, stepView } from './steps.js';
import { styleOf } from './style.js';

/** A terminal that does what cursor movements say, so that a test sees what a person sees. */
class Terminal {
  readonly isTTY = true;
  readonly lines: string[] = [''];
  #row = 0;
  constructor(
    readonly columns: number,
    readonly rows: number,
  ) {}

  write(text: string): void {
    const [start, ...moves] = text.split('\u001b[');
    this.#print(start as string);
    for (const move of moves) {
      const [code, amount, letter] = /^(\d+)([AK])/.exec(move) as unknown as [string, string, string];
      if (letter === 'A') this.#row -= Number(amount);
      else this.lines[this.#row] = '';
      this.#print(move.slice(code.length));
    }
  }

  #print(text: string): void {
    for (const character of text.replaceAll('\r', '')) {
      if (character === '\n') this.lines[++this.#row] ??= '';
      else this.lines[this.#row] += character;
    }
  }

  get shown(): string[] {
    return this.lines.filter((line) => line !== '');
  }
}

const plain = { TERM: 'xterm', NO_COLOR: '1' };

describe('on a terminal', () => {
  it('draws the steps again in place, forth and back', () => {
    const terminal = new Terminal(80, 24);
    const view = stepView(terminal, styleOf(terminal, plain), plain);
    view.update(operationOf('running', { 'clone-disk': 'done', 'power-on': 'running', wait: 'waiting' }));
    expect(terminal.shown).toHaveLength(3);
    expect(terminal.shown[0]).toBe('  ✔ clone-disk       1.5 s');
    view.update(operationOf('undoing', { 'clone-disk': 'undoing', 'power-on': 'failed', wait: 'waiting' }));
    view.update(operationOf('failed', { 'clone-disk': 'undone', 'power-on': 'failed', wait: 'waiting' }));
    view.end();
    expect(terminal.shown.map((line) => line.trim().split(/\s+/).slice(0, 2))).toEqual([
      ['↶', 'clone-disk'],
      ['✖', 'power-on'],
      ['·', 'wait'],
    ]);
  });

  it('draws on a terminal that does not know its size', () => {
    const terminal = new Terminal(0, 0);
    const view = stepView(terminal, styleOf(terminal, plain), plain);
    view.update(operationOf('running', { 'clone-disk': 'done', 'power-on': 'done' }));
    view.end();
    expect(terminal.shown).toEqual(['  ✔ clone-disk       1.5 s', '  ✔ power-on         1.5 s']);
  });

  it('keeps each step on one line, and all of them in the window', () => {
    const terminal = new Terminal(30, 6);
    const view = stepView(terminal, styleOf(terminal, plain), plain);
    const operation = operationOf(
      'running',
      Object.fromEntries(Array.from({ length: 9 }, (_, n) => [`step-${n}`, 'failed'])),
    );
    for (const step of operation.steps) step.error = { code: 'internal', detail: `a\n${'long '.repeat(20)}` };
    view.update(operation);
    view.update(operation);
    view.end();
    expect(terminal.shown.map((line) => line.slice(4, 10))).toEqual(['step-5', 'step-6', 'step-7', 'step-8']);
    expect(Math.max(...terminal.shown.map((line) => line.length))).toBeLessThan(30);
  });
});

const said = (...operations: ReturnType<typeof operationOf>[]) => {
  let text = '';
  const screen = { write: (more: string) => void (text += more) };
  const view = stepView(screen, styleOf(screen, {}), {});
  for (const operation of operations) view.update(operation);
  view.end();
  return text.trimEnd().split('\n');
};

const importing = (done: number) => {
  const operation = operationOf('running', { 'import-image': 'running' }, { kind: 'image.import' });
  operation.steps[0]!.progress = { done, total: 100 * 2 ** 20, text: 'fetch' };
  return operation;
};

describe('elsewhere', () => {
  it('says a failure with its remedy', () => {
    const failed = operationOf('undoing', { 'power-on': 'failed' });
    failed.steps[0]!.error = { code: 'bmc.unreachable', detail: 'no answer' };
    expect(said(failed, failed)).toEqual([
      '  power-on: failed (1.5 s, no answer (bmc.unreachable))',
      '    try: Check its address, its cable and its power.',
    ]);
  });

  it('says how far an import is, in tenths', () => {
    expect(said(...[0, 1, 2, 50, 51].map((percent) => importing(percent * 2 ** 20)))).toEqual([
      '  import-image: running (fetch 0 B of 100 MiB, 0%)',
      '  import-image: running (fetch 50 MiB of 100 MiB, 50%)',
    ]);
  });
});

describe('formatProgress', () => {
  it('counts bytes only where bytes are counted', () => {
    const progress = { done: 1, total: 2, text: 'waiting for the firmware' };
    expect(formatProgress(progress, 'provision')).toBe('waiting for the firmware');
    expect(formatProgress({ done: 2048, total: null, text: 'fetch' }, 'image.import')).toBe('fetch 2 KiB');
  });
});
