import type { Command } from 'commander';
import type { Act } from '../app.js';
import { M2Client } from '../client.js';
import { checkUrl } from '../config/connection.js';
import { loginPath, readLogin, writeLogin } from '../config/login-file.js';
import { readSecret } from '../prompt.js';
import { projectName } from './names.js';

const loopback = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** `login`, `logout`, `whoami`. */
export function sessionCommands(program: Command, act: Act): void {
  program
    .command('login <url>')
    .description('remember an M2 and a token for it; the token is read from standard input or a hidden prompt')
    .action(
      act(async (app, _options, address: string) => {
        const url = checkUrl(address, 'login');
        const { protocol, hostname } = new URL(url);
        if (protocol === 'http:' && !loopback.test(hostname)) {
          app.note('warning: this is not https: whoever can listen on the network can read the token');
        }
        const token = (await readSecret(app.world, 'token')).trim();
        // Asked before it is kept: a mistyped token is found now, not in the middle of the next thing.
        const me = await new M2Client({ url, token }).call('whoami');
        await writeLogin(loginPath(app.world), { url, token });
        app.note(`Logged in to ${url}.`);
        app.print(me, ({ name, role }) => `${name} (${role})\n`);
      }),
    );

  program
    .command('logout')
    .description('forget the remembered M2 and its token (which stays valid: m2 token revoke)')
    .action(
      act(async (app) => {
        const path = loginPath(app.world);
        const { url } = await readLogin(path);
        // The project that `m2 project use` chose stays, as nothing was left.
        if (url === undefined) return app.note('There was no login.');
        await writeLogin(path, {});
        app.note(`Logged out of ${url}.`);
      }),
    );

  program
    .command('whoami')
    .description('whose token is used, and where')
    .action(
      act(async (app) => {
        const me = await app.call('whoami');
        const { url, from } = await app.connection();
        const project = me.project === null || app.json ? 'all' : await projectName(app, me.project);
        app.print(me, ({ name, role, token }) => app.card({ name, role, project, token, gateway: `${url} (${from})` }));
      }),
    );
}
