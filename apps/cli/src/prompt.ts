import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import { usageError } from './errors.js';
import { exitCodes } from './exit-codes.js';
import { Exit, type World } from './world.js';

/** Whether a person is there to answer. */
export const canAsk = ({ stdin, stderr }: World) => Boolean(stdin.isTTY && stderr.isTTY);

/** Asks yes or no on the terminal; everything but `y` and `yes` is no. */
export async function confirm({ stdin, stderr }: World, question: string): Promise<boolean> {
  stderr.write(`${question} [y/N] `);
  const reader = createInterface({ input: stdin });
  try {
    for await (const line of reader) return /^\s*y(es)?\s*$/i.test(line);
    return false;
  } finally {
    reader.close();
  }
}

/**
 * A secret never comes from the argument list, which every user of the machine can read: a hidden prompt, or standard input. `orElse`: how else it
 * can be given.
 */
export async function readSecret(world: World, what: string, orElse = ''): Promise<string> {
  const secret = canAsk(world) ? await typed(world, what) : (await readAll(world.stdin)).replace(/\r?\n$/, '');
  if (secret === '') throw usageError(`the ${what} is empty`, `Give the ${what} on standard input${orElse}.`);
  return secret;
}

/** Reads a line with the terminal's echo switched off. */
function typed({ stdin, stderr }: World, what: string): Promise<string> {
  stderr.write(`${what[0]?.toUpperCase()}${what.slice(1)}: `);
  stdin.setRawMode?.(true);
  stdin.setEncoding('utf8');
  return new Promise<string>((resolve, reject) => {
    let line = '';
    const done = (settle: () => void) => {
      stdin.off('data', onData);
      stdin.setRawMode?.(false);
      stdin.pause();
      stderr.write('\n');
      settle();
    };
    const onData = (chunk: string | Buffer) => {
      for (const key of String(chunk)) {
        if (key === '\r' || key === '\n' || key === '\u0004') return done(() => resolve(line));
        if (key === '\u0003') return done(() => reject(new Exit(exitCodes.interrupted)));
        line = key === '\u007f' || key === '\b' ? line.slice(0, -1) : line + key;
      }
    };
    stdin.on('data', onData);
    stdin.resume();
  });
}
