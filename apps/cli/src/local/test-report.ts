import { z } from 'zod';
import { addTotals, type Totals } from './totals.js';

export const tiers = ['unit', 'it', 'e2e', 'faults'] as const;
/** `chaos` runs on request: a short one is part of `faults`. */
export const parts = [...tiers, 'chaos'] as const;
export type Tier = (typeof parts)[number];

/** Times are in milliseconds since the epoch. */
const fileReport = z.object({
  file: z.string(),
  tier: z.enum(parts),
  startedAt: z.number(),
  endedAt: z.number(),
  passed: z.number(),
  failed: z.number(),
  skipped: z.number(),
});
export type FileReport = z.infer<typeof fileReport>;

/** What a run of the tests leaves, for `m2 test` and for people. */
export const testReport = z.object({ files: z.array(fileReport) });
export type TestReport = z.infer<typeof testReport>;

export interface TierSummary extends Totals {
  tier: Tier;
  files: number;
  /** From the start of its first file to the end of its last: tiers that run together have each the whole time. */
  seconds: number;
  /** All its files added up; more than `seconds` as far as files ran side by side. */
  fileSeconds: number;
}

const secondsOf = (milliseconds: number) => Math.round(milliseconds / 100) / 10;
export const durationOf = ({ startedAt, endedAt }: FileReport): number => endedAt - startedAt;

export function summarize({ files }: TestReport, tier: Tier): TierSummary {
  const own = files.filter((file) => file.tier === tier);
  const first = Math.min(...own.map(({ startedAt }) => startedAt));
  const last = Math.max(...own.map(({ endedAt }) => endedAt));
  return {
    tier,
    files: own.length,
    seconds: own.length === 0 ? 0 : secondsOf(last - first),
    fileSeconds: secondsOf(own.reduce((sum, file) => sum + durationOf(file), 0)),
    ...addTotals(own),
  };
}

/** The files that took longest, the longest first. */
export const slowest = ({ files }: TestReport, count: number): FileReport[] =>
  files.toSorted((a, b) => durationOf(b) - durationOf(a)).slice(0, count);
