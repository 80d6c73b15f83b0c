import { roles } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act } from '../app.js';
import { formatAge } from '../output/units.js';
import { group, limitOption, type ListOptions } from './parts.js';

export function tokenCommands(program: Command, act: Act): void {
  const token = group(program, 'token', 'tokens: who may do what');

  token
    .command('list')
    .description('the tokens, without their values')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        const page = await (await app.client()).list('tokenList', {}, limit);
        const projects = app.json ? new Map<string, string>() : await app.projectNames();
        app.print(page, ({ items }) =>
          app.table(
            ['NAME', 'ROLE', 'PROJECT', 'ID', 'CREATED'],
            items.map(({ name, role, project, id, createdAt }) => {
              const where = project === null ? 'all' : (projects.get(project) ?? project);
              return [name, role, where, id, formatAge(createdAt)];
            }),
          ),
        );
      }),
    );

  token
    .command('create <name>')
    .description('make a token and print its value, this once; with --project it is good there only')
    .addOption(new Option('--role <role>', 'what it may do').choices(roles).default('member'))
    .action(
      act(async (app, { role }: { role: (typeof roles)[number] }, name: string) => {
        const project = app.common.project ?? (role === 'member' ? await app.project() : undefined);
        const made = await app.call('tokenCreate', { body: { name, role, ...(project !== undefined && { project }) } });
        app.note('This is the only time that the value is shown:');
        app.print(made, ({ value }) => `${value}\n`);
      }),
    );

  token
    .command('revoke <token>')
    .description('make a token void, by its id')
    .action(
      act(async (app, _options, id: string) => {
        await app.call('tokenRevoke', { params: { id } });
        app.note('The token is void.');
      }),
    );
}
