import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CliError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';

/** The programs that the workspace brings, by the file that Node runs. */
export const bins = {
  vitest: 'vitest/vitest.mjs',
  prettier: 'prettier/bin/prettier.cjs',
  oxlint: 'oxlint/bin/oxlint',
  tsc: 'typescript/bin/tsc',
  depcruise: 'dependency-cruiser/bin/dependency-cruiser.mjs',
} as const;
export type Bin = keyof typeof bins;

/** The repository that this command line was built in. Throws when it was installed without one. */
export function workspaceRoot(): string {
  // From dist/local (or src/local, in a test) to the root.
  const root = dirname(dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url))))));
  if (existsSync(join(root, 'vitest.config.ts'))) return root;
  throw new CliError({
    code: 'cli.no_workspace',
    title: 'This is for a checkout of the repository',
    detail: `there is none in ${root}`,
    remedy: 'Clone the repository and run its ./m2.',
    exitCode: exitCodes.usage,
  });
}

/** The file of a program that `npm install` brought; throws when it did not run. */
export function binPath(root: string, bin: Bin): string {
  const path = join(root, 'node_modules', bins[bin]);
  if (existsSync(path)) return path;
  throw new CliError({
    code: 'cli.not_installed',
    title: 'The workspace is not installed',
    detail: `${path} is missing`,
    remedy: 'Run npm ci in the root of the repository.',
    exitCode: exitCodes.usage,
  });
}
