import type { Screen, World } from '../world.js';

const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
export type Paint = (text: string) => string;
export type Style = Record<keyof typeof codes, Paint>;

/** Colours for a terminal that wants them (https://no-color.org), and none for everything else. */
export function styleOf(screen: Screen, env: World['env']): Style {
  const coloured = Boolean(screen.isTTY) && !env.NO_COLOR && env.TERM !== 'dumb';
  const paint =
    (code: number): Paint =>
    (text) =>
      coloured ? `\u001b[${code}m${text}\u001b[0m` : text;
  return Object.fromEntries(Object.entries(codes).map(([name, code]) => [name, paint(code)])) as Style;
}

const good = new Set(['ready', 'booted', 'succeeded', 'done', 'on']);
const bad = new Set(['failed', 'needs_attention', 'abandoned', 'unready']);
const busy = new Set([
  'running',
  'undoing',
  'importing',
  'creating',
  'deleting',
  'provisioning',
  'deprovisioning',
  'unknown',
]);

/** Paints the name of a state by what it means. */
export function paintState(style: Style, state: string): string {
  if (good.has(state)) return style.green(state);
  if (bad.has(state)) return style.red(state);
  return busy.has(state) ? style.yellow(state) : state;
}

/**
 * Text that came over the network, made safe for a terminal: an escape sequence in a node's report or an error's detail could
 * otherwise move the cursor, retitle the window or hide what is printed after it.
 */
export const clean = (text: string) => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, ' ');
