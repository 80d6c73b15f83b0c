import { afterEach } from 'vitest';
import { keepLogs, stages } from './kept-logs.js';

/** A fault that is seen once in many runs must not be waited for again: what it left in the logs stays. */
afterEach(async ({ task }) => {
  if (task.result?.state !== 'fail') return;
  for (const stage of stages) process.stderr.write(`The logs of the failed test are in ${await keepLogs(stage)}\n`);
});
