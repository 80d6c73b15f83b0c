import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { CliError } from '../errors.js';
import { exitCodes } from '../exit-codes.js';
import type { World } from '../world.js';

const login = z.object({
  url: z.url().optional(),
  token: z.string().min(1).optional(),
  project: z.string().optional(),
});
export type Login = z.infer<typeof login>;

/** What `m2 login` and `m2 project use` remember: `$XDG_CONFIG_HOME/m2/config.json`. */
export const loginPath = ({ env, home }: Pick<World, 'env' | 'home'>) =>
  join(env.XDG_CONFIG_HOME || join(home, '.config'), 'm2', 'config.json');

/** Reads the login file; one that is not there is empty. Throws when others may read the token in it, or it is damaged. */
export async function readLogin(path: string): Promise<Login> {
  try {
    const parsed = login.parse(JSON.parse(await readFile(path, 'utf8')));
    if (parsed.token !== undefined && ((await stat(path)).mode & 0o077) !== 0) {
      throw broken(path, 'others may read the token in it', `chmod 600 ${path}, and think of revoking the token.`);
    }
    return parsed;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    if (error instanceof CliError) throw error;
    throw broken(path, 'it cannot be read', 'Mend or delete it, then run m2 login again.', error);
  }
}

/** Replaces the login file in one step: a crash leaves the old one or the new one, never half of a token. */
export async function writeLogin(path: string, content: Login): Promise<void> {
  if (Object.values(content).every((value) => value === undefined)) return rm(path, { force: true });
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${process.pid}`;
  await rm(draft, { force: true });
  await writeFile(draft, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  await chmod(draft, 0o600);
  await rename(draft, path);
}

const broken = (path: string, what: string, remedy: string, cause?: unknown) =>
  new CliError(
    {
      code: 'cli.login_file',
      title: 'The login file is no good',
      detail: `${path}: ${what}`,
      remedy,
      exitCode: exitCodes.usage,
    },
    { cause },
  );
