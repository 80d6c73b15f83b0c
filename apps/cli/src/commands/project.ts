import type { Project } from '@m2/contracts';
import type { Command } from 'commander';
import type { Act, App } from '../app.js';
import { loginPath, readLogin, writeLogin } from '../config/login-file.js';
import { type DestroyOptions, type Doomed, mayDestroy } from '../destroy.js';
import { formatAge } from '../output/units.js';
import { destructive, group, limitOption, type ListOptions } from './parts.js';

export function projectCommands(program: Command, act: Act): void {
  const project = group(program, 'project', 'projects: what belongs together, and to whom');

  project
    .command('list')
    .description('the projects that you may see')
    .addOption(limitOption())
    .action(
      act(async (app, { limit }: ListOptions) => {
        app.print(await (await app.client()).list('projectList', {}, limit), ({ items }) =>
          app.table(
            ['NAME', 'ID', 'CREATED'],
            items.map(({ name, id, createdAt }) => [name, id, formatAge(createdAt)]),
          ),
        );
      }),
    );

  project
    .command('create <name>')
    .description('make a project')
    .action(
      act(async (app, _options, name: string) => {
        app.print(await app.call('projectCreate', { body: { name } }), card(app));
      }),
    );

  project
    .command('show <project>')
    .description('one project')
    .action(
      act(async (app, _options, project: string) => {
        app.print(await app.call('projectShow', { params: { project } }), card(app));
      }),
    );

  destructive(project.command('delete <project>').description('delete a project that has nothing in it')).action(
    act(async (app, options: DestroyOptions, project: string) => {
      if (!(await mayDestroy(app, options, () => look(app, project)))) return;
      await app.call('projectDelete', { params: { project } });
      app.note(`The project ${project} is gone.`);
    }),
  );

  project
    .command('use <project>')
    .description('work in this project where none is named')
    .action(
      act(async (app, _options, project: string) => {
        const { name } = await app.call('projectShow', { params: { project } });
        const path = loginPath(app.world);
        await writeLogin(path, { ...(await readLogin(path)), project: name });
        app.note(`Commands work in the project ${name} now, unless --project or M2_PROJECT says otherwise.`);
      }),
    );
}

const card =
  (app: App) =>
  ({ name, id, createdAt }: Project) =>
    app.card({ name, id, created: createdAt });

async function look(app: App, project: string): Promise<Doomed> {
  const client = await app.client();
  const params = { project };
  const object = await app.call('projectShow', { params });
  const [provisions, disks, trash, images] = await Promise.all([
    client.list('provisionList', { params }),
    client.list('diskList', { params }),
    client.list('diskList', { params, query: { trashed: 'true' } }),
    client.list('imageList', { params, query: { own: 'true' } }),
  ]);
  const usedBy = [
    ...provisions.items.map(({ nodeName }) => `provision of ${nodeName}`),
    ...disks.items.map(({ name }) => `disk ${name}`),
    ...trash.items.map(({ name }) => `disk ${name} in the trash`),
    ...images.items.map(({ name }) => `image ${name}`),
  ];
  return { what: `project ${object.name}`, object, usedBy };
}
