import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { usageError } from '../errors.js';
import type { Tier } from './test-report.js';

/** What to run for a tier: all of it, the tests that import one of `files` or are one of them, or nothing; and why. */
export type Selection =
  { run: 'all'; why: string } | { run: 'related'; files: string[] } | { run: 'nothing'; why: string };

/** A change of one of these may change any test. */
const everything =
  /^(package(-lock)?\.json|vitest\.config\.ts|tsconfig[^/]*\.json|tools\/node\/.*)$|^libs\/service-kit\/src\/testing\//;
/** Programs that tests run and do not import. */
const programs = /\.(sh|mjs)$|^libs\/rbd\/src\/child\/|^lab\/src\/image\/guest\//;
/** What the product and its lab are made of; tests are not of it. */
const product = /^(libs|services|apps|lab)\//;
const test = /\.(spec|it|fixture|conformance)\.ts$|\/testing\/|\.md$/;
/** Tests that look at what they do not import: the files, and the tests. */
const readers: [RegExp, string[]][] = [
  [/./, ['tools/docs.spec.ts']],
  [/\.(ts|cjs)$/, ['tools/boundaries.spec.ts']],
  [/^m2$/, ['tools/entry.it.ts']],
  [/^deploy\/|^docker-compose\.yml$/, ['deploy/nats.spec.ts', 'deploy/compose.it.ts']],
  // They start the built product.
  [/^(libs|services|apps)\//, ['apps/supervisor/src/supervisor.it.ts', 'apps/supervisor/src/unprivileged.it.ts']],
];

/** What a change can touch: `unit` and `it` by what they import, `e2e` and `faults` by whether a part of what they start changed. */
export function select(changed: string[], tier: Tier): Selection {
  if (changed.length === 0) return { run: 'nothing', why: 'nothing changed' };
  const whole =
    tier === 'unit' || tier === 'it'
      ? (file: string) => programs.test(file)
      : (file: string) =>
          (product.test(file) && !test.test(file)) || file.startsWith(tier === 'chaos' ? 'faults/' : `${tier}/`);
  const cause = changed.find((file) => everything.test(file) || whole(file));
  if (cause) return { run: 'all', why: `${cause} changed` };
  if (tier !== 'unit' && tier !== 'it') return { run: 'nothing', why: 'nothing changed of what it starts' };
  const reading = readers.flatMap(([read, tests]) => (changed.some((file) => read.test(file)) ? tests : []));
  return { run: 'related', files: [...new Set([...changed, ...reading])] };
}

/**
 * The files that are different since the checkout parted from `ref`, untracked ones included. Throws a usage error when git does not know
 * `ref`.
 */
export async function changedFiles(root: string, ref: string): Promise<string[]> {
  const git = async (...args: string[]) => {
    const { stdout } = await promisify(execFile)('git', args, { cwd: root, maxBuffer: 64 * 2 ** 20 }).catch((cause) => {
      throw usageError(
        `git ${args.join(' ')}: ${(cause as { stderr?: string }).stderr?.trim()}`,
        'Name a commit or a branch that git knows.',
      );
    });
    return stdout.split('\n').filter(Boolean);
  };
  const [base] = await git('merge-base', ref, 'HEAD');
  const lists = await Promise.all([
    git('diff', '--name-only', base!),
    git('ls-files', '--others', '--exclude-standard'),
  ]);
  return [...new Set(lists.flat())].sort();
}
