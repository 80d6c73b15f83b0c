import { setTimeout as pause } from 'node:timers/promises';

const deadlineMs = 30_000;

/** Waits until `look` answers something that counts as true, and answers it. Throws, and says what was waited for, after 30 s. */
export async function until<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`Waited ${deadlineMs} ms in vain until ${what}`);
    await pause(20);
  }
}
