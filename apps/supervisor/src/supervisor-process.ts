import { once } from 'node:events';
import { SupervisorError } from './errors.js';
import { ensureState } from './state.js';
import type { Launch } from './supervisor.js';
import { type Message, superviseHere } from './up.js';

/** The detached supervisor: gets what to launch from the process that started it, and tells it how that went. */
const tell = (message: Message) => {
  // The parent process may not listen any more, or may have been killed.
  if (process.connected) process.send?.(message, () => {});
};

const [launch] = (await once(process, 'message')) as [Launch];
try {
  const paths = ensureState(process.argv[2] as string);
  const supervisor = await superviseHere(paths, launch, (line) => tell({ kind: 'report', line }));
  tell({ kind: 'ready' });
  await supervisor.ended;
} catch (error) {
  const { code, message, remedy } =
    error instanceof SupervisorError
      ? error
      : new SupervisorError('supervisor.child_failed', String(error), 'Read logs/supervisor.log.', { cause: error });
  tell({ kind: 'failed', code, message, remedy });
  process.exitCode = 1;
}
if (process.connected) process.disconnect();
