/** Compares two lists in any order. Returns what differs, in words. */
export function same(what: string, found: unknown[], wanted: unknown[]): string[] {
  const [a, b] = [found, wanted].map((list) => list.map((one) => JSON.stringify(one)).sort());
  if (JSON.stringify(a) === JSON.stringify(b)) return [];
  const [tooMany, missing] = [without(a!, b!), without(b!, a!)].map((list) => list.join(', ') || 'none');
  return [`${what}: there are ${tooMany} too many, missing ${missing}`];
}

/** What one list has more often than another. */
function without(list: string[], other: string[]): string[] {
  const left = [...other];
  return list.filter((one) => {
    const at = left.indexOf(one);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}
