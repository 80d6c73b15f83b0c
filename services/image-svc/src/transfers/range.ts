/** Bytes from `start` up to (not including) `end`. */
export interface Range {
  start: number;
  end: number;
}

/**
 * The bytes that a Range header asks for (RFC 9110, 14.1.2 and 14.2). Several ranges, other units and bad syntax are ignored, as the RFC
 * allows: `undefined` means all. `unsatisfiable` begins after the end.
 */
export function parseRange(header: string | undefined, size: number): Range | 'unsatisfiable' | undefined {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  if (first === '') {
    const suffix = Math.min(Number(last), size);
    return suffix === 0 ? 'unsatisfiable' : { start: size - suffix, end: size };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return undefined;
  if (start >= size) return 'unsatisfiable';
  return { start, end: last === '' ? size : Math.min(Number(last) + 1, size) };
}
