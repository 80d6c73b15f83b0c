/** Answers a function that runs what it is given, at most `count` at a time, in the order of the calls. */
export function limit(count: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = count;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await work();
    } finally {
      // The place goes from hand to hand: were it freed first, a newcomer could overtake who waits.
      const next = waiting.shift();
      if (next) next();
      else free += 1;
    }
  };
}
