import Table from 'cli-table3';
import { clean, type Style } from './style.js';

export type Cell = string | number | null | undefined;

const borderless = Object.fromEntries(
  ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right', 'left', 'left-mid']
    .concat(['mid', 'mid-mid', 'right', 'right-mid'])
    .map((edge) => [edge, '']),
);
const layout = {
  chars: { ...borderless, middle: '  ' },
  style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
};
const plain = (cell: Cell) => (cell === null || cell === undefined || cell === '' ? '-' : clean(String(cell)));

/**
 * Rows under a head, two spaces between the columns. `paint` colours a finished cell (its text is padded by its visible width).
 */
export function formatTable(
  style: Style,
  head: string[],
  rows: Cell[][],
  paint: (text: string, column: string) => string = (text) => text,
): string {
  const table = new Table({ ...layout, head: head.map((name) => style.bold(name)) });
  table.push(...rows.map((row) => row.map((cell, index) => paint(plain(cell), head[index] as string))));
  return trimmed(table.toString());
}

/** One object as `name  value` lines. */
export function formatCard(
  style: Style,
  fields: Record<string, Cell>,
  paint: (text: string, name: string) => string = (text) => text,
): string {
  const table = new Table(layout);
  table.push(...Object.entries(fields).map(([name, value]) => [style.bold(name), paint(plain(value), name)]));
  return trimmed(table.toString());
}

const trimmed = (text: string) => `${text.replaceAll(/[ \t]+$/gm, '')}\n`;
