import { inject } from 'vitest';

declare module 'vitest' {
  interface ProvidedContext {
    testRun: string;
  }
}

/**
 * The directory of this run of vitest: what all its test files share is below it. When the run is over, however it ends, every process
 * that has a path below it among its arguments is ended, and the directory is removed (see global-setup.ts).
 */
export const testRun = (): string => ownDirectory ?? inject('testRun');

let ownDirectory: string | undefined;

/** For a benchmark, which uses the servers of this library without vitest: it stops what it starts, and removes the directory. */
export function useTestRun(directory: string): void {
  ownDirectory = directory;
}
