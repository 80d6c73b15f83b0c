import type { StepRow } from './journal.js';
import type { Step } from './saga.js';

type Row = (name: string) => StepRow;

/** Steps that may be begun now. A crash between intent and outcome leaves a step `running`: it is done again. */
export function readySteps(steps: Step<never>[], row: Row): Step<never>[] {
  const settled = (name: string) => ['done', 'skipped'].includes(row(name).state);
  return steps.filter(
    ({ name, after }) => ['waiting', 'running', 'unknown', 'failed'].includes(row(name).state) && after.every(settled),
  );
}

/** Those of `open` that none of `open` was built on: they are undone together, and first. */
export function lastSteps(steps: Step<never>[], open: Step<never>[]): Step<never>[] {
  const dependsOn = (step: Step<never>, name: string): boolean =>
    step.after.some(
      (before) =>
        before === name ||
        dependsOn(
          steps.find((one) => one.name === before)!,
          name,
        ),
    );
  return open.filter(({ name }) => !open.some((other) => dependsOn(other, name)));
}

/**
 * Whether the steps on record are those of the code. They differ when a saga was changed and kept its version. An operation from before
 * graphs were stored has names only.
 */
export const isSameGraph = (steps: Step<never>[], rows: StepRow[]): boolean =>
  steps.length === rows.length &&
  rows.every(
    ({ name, after }, at) =>
      name === steps[at]!.name && (after === null || after.join('\n') === steps[at]!.after.join('\n')),
  );
