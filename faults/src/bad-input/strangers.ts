import { allRoutes, type Operation, type Role } from '@m2/contracts';
import { beforeAll, describe, expect, it } from 'vitest';
import { takeInventory } from '../inventory.js';
import { ask } from '../door.js';
import { askDeprovision, askProvision, ended, type TestInstallation, succeeded } from '../installation.js';

/** A path with a value for each parameter. The values need not exist: permission is checked first. */
const concrete = (path: string) =>
  path.replace('{id}', '01990000-0000-7000-8000-000000000000').replaceAll(/\{\w+\}/g, 'demo');
const guarded = allRoutes
  .filter(({ allow }) => allow !== 'public')
  .map((route) => ({ method: route.method, path: concrete(route.path), allow: route.allow }));

/** Ways to write a path that a careless guard takes for another. */
const disguises = [
  '//v1/projects',
  '/v1//projects',
  '/v1/projects/',
  '/v1/projects//',
  '/v1/projects/.',
  '/v1/./projects',
  '/v1/x/../projects',
  '/V1/Projects',
  '/v1/%70rojects',
  '/v1/projects%2f',
  '/v1/projects%00',
  '/v1/projects;x=1',
  '/v1/projects?',
  '/v1/projects#x',
  '/v1/openapi.json/../projects',
  '/v1/openapi.json%2f..%2fprojects',
  '/healthz/../v1/projects',
  'http://localhost/v1/projects',
];

const tricks: Record<string, string>[] = [
  {},
  { 'x-http-method-override': 'GET' },
  { 'x-original-url': '/v1/openapi.json' },
];

export function describeStrangers(installation: () => TestInstallation): void {
  describe('who has no token that is one', () => {
    it.each(guarded)('$method $path is closed', async ({ method, path }) => {
      const before = await takeInventory(installation());
      const answers = [
        await ask(installation(), method, path, { token: null }),
        await ask(installation(), method, path, { authorization: 'Basic YWRtaW46YWRtaW4=' }),
        await ask(installation(), method, path, { authorization: 'Bearer ' }),
        await ask(installation(), method, path, { token: 'm2_wrong' }),
        await ask(installation(), method, path, { token: `${installation().adminToken}x` }),
      ];
      // The answer to a HEAD has no body, and so no code.
      const codes = ['auth.missing', 'auth.missing', 'auth.missing', 'auth.invalid', 'auth.invalid'];
      expect(answers.map(({ status, code }) => `${status} ${code}`)).toEqual(
        codes.map((code) => `401 ${method === 'HEAD' ? undefined : code}`),
      );
      expect(await takeInventory(installation())).toEqual(before);
    });

    it.each(disguises)('finds no other way in by %s', async (path) => {
      const open: string[] = [];
      for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS', 'TRACE', 'PATCH'])
        for (const headers of tricks) {
          const { status } = await ask(installation(), method, path, { token: null, headers });
          if (![400, 401, 404, 405].includes(status)) open.push(`${method}: ${status}`);
        }
      expect(open).toEqual([]);
    });

    it('HEAD is guarded as GET is', async () => {
      expect(await ask(installation(), 'HEAD', '/v1/projects', { token: null })).toMatchObject({ status: 401 });
    });

    it('is let in no more when the token was revoked', async () => {
      const { client } = installation();
      const token = await client.call('tokenCreate', { body: { name: 'short', role: 'auditor' } });
      expect((await ask(installation(), 'GET', '/v1/projects', { token: token.value })).status).toBe(200);
      await client.call('tokenRevoke', { params: { id: token.id } });
      expect(await ask(installation(), 'GET', '/v1/projects', { token: token.value })).toMatchObject({
        status: 401,
        code: 'auth.invalid',
      });
    });
  });

  describe('who has a role', () => {
    it.each(['member', 'operator', 'auditor'] satisfies Role[])('%s: nothing beyond it', async (role) => {
      const { client } = installation();
      const body = { name: role, role, ...(role === 'member' && { project: 'demo' }) };
      const { id, value } = await client.call('tokenCreate', { body });
      const before = await takeInventory(installation());
      const opened: string[] = [];
      for (const { method, path, allow } of guarded) {
        if (allow.includes(role)) continue;
        const { status, code } = await ask(installation(), method, path, { token: value, body: {} });
        const told = method === 'HEAD' || code === 'auth.forbidden';
        if (status !== 403 || !told) opened.push(`${method} ${path}: ${status} ${code}`);
      }
      expect(opened).toEqual([]);
      expect(await takeInventory(installation())).toEqual(before);
      await client.call('tokenRevoke', { params: { id } });
    });
  });

  describe('a member of another project', () => {
    let token: string;
    let operation: Operation;
    let ids: Record<'project' | 'image' | 'disk' | 'provision' | 'operation' | 'privateNode', string>;

    beforeAll(async () => {
      const { client, stage } = installation();
      await client.call('projectCreate', { body: { name: 'other' } });
      token = (await client.call('tokenCreate', { body: { name: 'stranger', role: 'member', project: 'other' } }))
        .value;
      operation = await succeeded(installation(), await askProvision(installation()));
      const { provision, disk, image } = operation.about as Record<'provision' | 'disk' | 'image', string>;
      const project = (await client.call('projectShow', { params: { project: stage.project } })).id;
      const privateNode = await client.call('nodeRegister', {
        body: {
          name: 'private',
          project,
          nics: [{ label: 'eth0', mac: '52:54:00:aa:bb:cc' }],
          bmc: { address: '127.0.0.1', port: 9, user: 'admin', password: 'secret' },
        },
      });
      ids = { project, image, disk, provision, operation: operation.id, privateNode: privateNode.id };
    });

    const fill = (text: string) => text.replaceAll(/<(\w+)>/g, (_, key: keyof typeof ids) => ids[key]);

    /** Everything of the project `demo`, by name and by identifier, in every place of the API. Node 2 is free. */
    const attempts: { ask: string; body?: object; code: string }[] = [
      ...['demo', '<project>'].flatMap((project) => [
        { ask: `GET /v1/projects/${project}`, code: 'project.not_found' },
        { ask: `DELETE /v1/projects/${project}/disks/<disk>`, code: 'project.not_found' },
        { ask: `DELETE /v1/projects/${project}/images/<image>`, code: 'project.not_found' },
        { ask: `DELETE /v1/projects/${project}/provisions/<provision>`, code: 'project.not_found' },
        { ask: `GET /v1/projects/${project}/images`, code: 'project.not_found' },
        { ask: `GET /v1/projects/${project}/disks`, code: 'project.not_found' },
        { ask: `GET /v1/projects/${project}/provisions`, code: 'project.not_found' },
        {
          ask: `POST /v1/projects/${project}/provisions`,
          body: { node: 'node-2', image: 'golden' },
          code: 'project.not_found',
        },
        { ask: `POST /v1/projects/${project}/disks`, body: { name: 'd', image: 'golden' }, code: 'project.not_found' },
        {
          ask: `POST /v1/projects/${project}/images`,
          body: { name: 'i', source: { kind: 'file', path: '/x' } },
          code: 'project.not_found',
        },
        { ask: `GET /v1/operations?project=${project}`, code: 'project.not_found' },
        { ask: `GET /v1/events?project=${project}`, code: 'project.not_found' },
      ]),
      ...['golden', '<image>'].flatMap((image) => [
        { ask: `GET /v1/projects/other/images/${image}`, code: 'image.not_found' },
        { ask: `DELETE /v1/projects/other/images/${image}`, code: 'image.not_found' },
        { ask: 'POST /v1/projects/other/disks', body: { name: 'd', image }, code: 'image.not_found' },
        { ask: 'POST /v1/projects/other/provisions', body: { node: 'node-2', image }, code: 'image.not_found' },
      ]),
      { ask: 'GET /v1/projects/other/disks/<disk>', code: 'disk.not_found' },
      { ask: 'DELETE /v1/projects/other/disks/<disk>', code: 'disk.not_found' },
      { ask: 'POST /v1/projects/other/provisions', body: { node: 'node-2', disk: '<disk>' }, code: 'disk.not_found' },
      { ask: 'GET /v1/projects/other/provisions/<provision>', code: 'provision.not_found' },
      { ask: 'DELETE /v1/projects/other/provisions/<provision>', code: 'provision.not_found' },
      { ask: 'GET /v1/operations/<operation>', code: 'operation.not_found' },
      { ask: 'POST /v1/operations/<operation>/cancel', code: 'operation.not_found' },
      { ask: 'POST /v1/operations/<operation>/resume', code: 'operation.not_found' },
      ...['private', '<privateNode>'].flatMap((node) => [
        { ask: `GET /v1/nodes/${node}`, code: 'node.not_found' },
        { ask: 'POST /v1/projects/other/provisions', body: { node, image: 'golden' }, code: 'not_found' },
      ]),
    ];

    it.each(attempts)('$ask $body: $code', async ({ ask: line, body, code }) => {
      const before = await takeInventory(installation());
      const [method, path] = fill(line).split(' ') as [string, string];
      const raw = body && fill(JSON.stringify(body));
      const answer = await ask(installation(), method, path, { token, ...(raw && { raw }) });
      expect(answer).toMatchObject({ status: 404, code: expect.stringContaining(code) });
      // Neither its holder, its name nor its content is disclosed.
      expect(JSON.stringify(answer.json)).not.toMatch(new RegExp(`web|"about"|${operation.about['node']}`));
      expect(await takeInventory(installation())).toEqual(before);
    });

    it('sees nothing of it in any list', async () => {
      const lists = [
        '/v1/projects',
        '/v1/nodes',
        '/v1/operations',
        '/v1/events',
        '/v1/projects/other/provisions?all=true',
      ];
      const answers = await Promise.all(lists.map((path) => ask(installation(), 'GET', path, { token })));
      expect(answers.map(({ status }) => status)).toEqual(lists.map(() => 200));
      const seen = JSON.stringify(answers.map(({ json }) => json));
      for (const id of Object.values(ids)) expect(seen).not.toContain(id);
      for (const { bmc } of installation().stage.nodes) expect(seen).not.toContain(bmc.user);
    });

    it('has changed nothing: the provision is taken back as ever', async () => {
      const last = await ended(installation(), await askDeprovision(installation(), ids.provision));
      expect(last.state).toBe('succeeded');
      await installation().client.call('nodeRemove', { params: { node: 'private' } });
    });
  });
}
