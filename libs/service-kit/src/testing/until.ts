import { setTimeout as pause } from 'node:timers/promises';

/** Calls `look` until it returns something truthy, and returns that. After `deadlineMs` it throws, and says what it waited for. */
export async function until<T>(what: string, look: () => T | Promise<T>, deadlineMs = 30_000): Promise<NonNullable<T>> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (performance.now() > end) throw new Error(`Waited ${deadlineMs} ms in vain until ${what}`);
    await pause(20);
  }
}
