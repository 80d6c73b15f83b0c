import type * as Supervisor from '@m2/supervisor';
import type { App } from '../app.js';
import { stateDirectory } from '../config/connection.js';
import { CliError } from '../errors.js';
import { type ExitCode, exitCodes } from '../exit-codes.js';

const codes: Partial<Record<Supervisor.SupervisorError['code'], ExitCode>> = {
  'supervisor.already_running': exitCodes.conflict,
  'supervisor.port_taken': exitCodes.conflict,
  'supervisor.bad_option': exitCodes.usage,
};

/**
 * Runs `work` with the supervisor's functions and the state directory that the command is about; what they throw becomes an error
 * of the command line under `title`. The supervisor is loaded only here: the commands of the API start faster without it.
 */
export async function withSupervisor<T>(
  app: App,
  title: string,
  work: (supervisor: typeof Supervisor, state: string) => Promise<T>,
): Promise<T> {
  const supervisor = await import('@m2/supervisor');
  try {
    return await work(supervisor, await stateDirectory(app.world, app.common.state));
  } catch (error) {
    if (!(error instanceof supervisor.SupervisorError)) throw error;
    const { code, message, remedy } = error;
    const fields = { code, title, detail: message, remedy, exitCode: codes[code] ?? exitCodes.failed };
    throw new CliError(fields, { cause: error });
  }
}
