import { InvalidArgumentError } from 'commander';

const powers: Record<string, number> = { K: 1, M: 2, G: 3, T: 4, P: 5 };

/**
 * Bytes of a size as people write it: `512`, `20G`, `20GiB` (powers of 1024, as qemu-img and lvcreate read them), `20GB` (powers
 * of 1000). Throws commander's error for a value that is none.
 */
export function parseSize(text: string): number {
  const [, number, prefix = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?$/i.exec(text.trim()) ?? [];
  const base = /^b$/i.test(unit) ? 1000 : 1024;
  const bytes = Number(number) * base ** (powers[prefix.toUpperCase()] ?? 0);
  if (bytes > Number.MAX_SAFE_INTEGER) throw new InvalidArgumentError('Give less: a size is below 8P.');
  if (number === undefined || !Number.isSafeInteger(bytes) || bytes === 0) {
    throw new InvalidArgumentError('Give a size such as 20G, 512M or 21474836480.');
  }
  return bytes;
}

/** A whole number from 1 on, for commander. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new InvalidArgumentError('Give a whole number from 1 on.');
  return count;
}

/** `20 GiB`, `1.5 MiB`, `512 B`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number(value.toFixed(value < 100 ? 1 : 0))} ${units[unit]}`;
}

const pair = (high: number, low: number, highUnit: string, lowUnit: string) =>
  `${high} ${highUnit} ${String(low).padStart(2, '0')} ${lowUnit}`;

/** `0.02 s`, `12.3 s`, `2 min 05 s`, `1 h 03 min`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return pair(Math.floor(whole / 60), whole % 60, 'min', 's');
  return pair(Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), 'h', 'min');
}

/** How long ago a time of the API was: `3 min ago`. */
// oxlint-disable-next-line no-restricted-properties -- compared with a time of the API
export function formatAge(time: string, now = Date.now()): string {
  const seconds = Math.max(0, Math.floor((now - Date.parse(time)) / 1000));
  if (seconds < 5) return 'just now';
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}
