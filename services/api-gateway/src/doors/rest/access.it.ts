import { allRoutes as all, type AnyRoute, type Role, roles } from '@m2/contracts';
import { Controller, Delete, Get, Module } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GatewayModule } from '../../gateway.module.js';
import { openGateway, type TestGateway } from '../../testing/gateway.js';

/** What a developer may forget: routes that are in no catalogue. */
@Controller()
class Forgotten {
  @Get('/v1/forgotten')
  show() {
    return { secret: 'hunter2' };
  }

  @Delete('/v1/projects/:project/forgotten')
  delete() {
    return { secret: 'hunter2' };
  }
}
@Module({ imports: [GatewayModule], controllers: [Forgotten] })
class WithForgotten {}

let gateway: TestGateway;
let mine: { id: string; name: string };
let other: { id: string; name: string };
const tokens = {} as Record<Role, string>;

beforeAll(async () => {
  gateway = await openGateway({ module: WithForgotten });
  [mine, other] = await Promise.all([gateway.project('mine'), gateway.project('other')]);
  for (const role of roles) tokens[role] = await gateway.token(role, role === 'member' ? 'mine' : undefined);
  // Projects with something in them are not deleted by the way.
  for (const project of [mine, other]) gateway.standIns.addImage('kept', project.id);
});
afterAll(() => gateway?.close());

const closed = all.filter(({ allow }) => allow !== 'public');
/** An answer to HEAD is its headers (RFC 9110, section 9.3.2). */
const hasBody = ({ method }: AnyRoute) => method !== 'HEAD';
const pathOf = ({ path }: AnyRoute, project = 'mine') =>
  path
    .replace('{project}', project)
    .replaceAll('{id}', uuidv7())
    .replaceAll(/\{\w+\}/g, 'nothing');

describe('without a token', () => {
  it.each(closed.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s is refused',
    async (_name, route) => {
      const { status, body, headers } = await gateway.ask(route.method, pathOf(route), { token: undefined });
      expect(status).toBe(401);
      const refusal = { code: 'auth.missing', type: 'urn:m2:error:auth.missing', status: 401 };
      expect({ body }).toMatchObject({ body: hasBody(route) ? refusal : undefined });
      expect(headers.get('content-type')).toContain('application/problem+json');
      expect(headers.get('www-authenticate')).toBe('Bearer');
    },
  );

  it.each(all.filter((route) => !closed.includes(route)).map((route) => [route.path, route] as const))(
    '%s is public',
    async (_path, route) => {
      const { status } = await gateway.ask(route.method, route.path, { token: undefined });
      expect(status).toBe(200);
    },
  );

  it('or with one that is none, nothing is told', async () => {
    const headers = ['Basic YWRtaW46YWRtaW4=', 'Bearer', 'Bearer ', 'Bearer a b', "Bearer ' OR 1=1 --", 'Token x'];
    for (const authorization of headers) {
      const { status, body } = await gateway.ask('GET', '/v1/projects', {
        token: undefined,
        headers: { authorization },
      });
      expect([authorization, status, (body as { code: string }).code]).toEqual([authorization, 401, 'auth.missing']);
    }
    const unknown = await gateway.ask('GET', '/v1/projects', { token: 'm2_unknown' });
    expect([unknown.status, (unknown.body as { code: string }).code]).toEqual([401, 'auth.invalid']);
    const inPath = await gateway.ask('GET', `/v1/projects?access_token=${tokens.admin}`, { token: undefined });
    expect(inPath.status).toBe(401);
  });
});

describe('what is in no catalogue of routes', () => {
  it('is served to nobody, not even to an admin', async () => {
    for (const [method, path] of [
      ['GET', '/v1/forgotten'],
      ['DELETE', '/v1/projects/mine/forgotten'],
    ] as const)
      for (const token of [tokens.admin, tokens.member, undefined]) {
        const { status, text } = await gateway.ask(method, path, { token });
        expect([path, status]).toEqual([path, 404]);
        expect(text).not.toContain('hunter2');
      }
  });
});

describe.each(roles)('a token of the role %s', (role) => {
  it.each(closed.map((route) => [`${route.method} ${route.path}`, route] as const))(
    'may do what %s allows, no more',
    async (_name, route) => {
      const { status, body } = await gateway.ask(route.method, pathOf(route), { token: tokens[role] });
      const isAllowed = role === 'admin' || (route.allow as readonly Role[]).includes(role);
      expect(status).not.toBe(401);
      expect(status).toBeLessThan(500);
      expect(status === 403).toBe(!isAllowed);
      const isSaid = (body as { code?: string } | undefined)?.code === 'auth.forbidden';
      expect(isSaid).toBe(!isAllowed && hasBody(route));
    },
  );
});

describe('a token of one project', () => {
  const inProject = closed.filter(({ path }) => path.includes('{project}'));
  const scoped = {} as Record<'member' | 'auditor', string>;
  beforeAll(async () => {
    scoped.member = tokens.member;
    scoped.auditor = await gateway.token('auditor', 'mine');
  });

  it.each(inProject.map((route) => [`${route.method} ${route.path}`, route] as const))(
    'finds no other project at %s',
    async (_name, route) => {
      const asked = gateway.standIns.asked.length;
      for (const role of ['member', 'auditor'] as const)
        for (const name of [other.name, other.id, 'no-such-project']) {
          const answer = await gateway.ask(route.method, pathOf(route, name), { token: scoped[role] });
          const expected = (route.allow as readonly Role[]).includes(role)
            ? [404, { code: 'project.not_found' }]
            : [403, { code: 'auth.forbidden' }];
          expect([answer.status, answer.body]).toMatchObject(hasBody(route) ? expected : [expected[0], undefined]);
        }
      expect(gateway.standIns.asked.slice(asked)).toEqual([]);
    },
  );

  it('is asked for in its own project only, whatever the path names inside it', async () => {
    const token = tokens.member;
    const foreign = gateway.standIns.addImage('foreign', other.id);
    const theirs = gateway.standIns.storage.addDisk('theirs', other.id);
    const trashed = gateway.standIns.storage.addDisk('old', other.id, { state: 'trashed' });
    const tag = gateway.standIns.storage.addTag('v1', theirs);
    const ours = gateway.standIns.storage.addDisk('ours', mine.id);
    const asked = gateway.standIns.asked.length;
    for (const [method, path, body] of [
      ['GET', `images/${foreign.id}`],
      ['DELETE', `images/${foreign.id}`],
      ['POST', 'disks', { name: 'stolen', image: foreign.id }],
      ['POST', 'provisions', { node: 'node-1', image: foreign.id }],
      ['PATCH', `images/${foreign.id}`, { name: 'stolen' }],
      ['GET', `images/${foreign.id}/tree`],
      ['GET', `images/${foreign.id}/content`],
      ['POST', `images/${foreign.id}/export`, { volume: 'pool/stolen' }],
      ['POST', `images/${foreign.id}/upload`],
      ['HEAD', `images/${foreign.id}/upload`],
      ['POST', 'images', { name: 'stolen', source: { kind: 'image', image: foreign.id } }],
      ['POST', 'images', { name: 'stolen', source: { kind: 'image', image: foreign.id, project: 'other' } }],
      ['POST', 'images', { name: 'stolen', source: { kind: 'image', image: 'foreign', project: other.id } }],
      ['POST', 'images', { name: 'stolen', source: { kind: 'disk', disk: theirs.id } }],
      ['POST', 'images', { name: 'stolen', source: { kind: 'disk', disk: 'theirs', tag: 'v1' } }],
      ['GET', `disks/${theirs.id}`],
      ['PATCH', `disks/${theirs.id}`, { name: 'stolen' }],
      ['DELETE', `disks/${theirs.id}?purge=true`],
      ['DELETE', 'disks/old?purge=true'],
      ['POST', `disks/${trashed.id}/restore`, {}],
      ['POST', 'disks/old/restore', {}],
      ['POST', `disks/${theirs.id}/flatten`],
      ['GET', `disks/${theirs.id}/tags`],
      ['POST', `disks/${theirs.id}/tags`, { name: 'v2' }],
      ['DELETE', `disks/${theirs.id}/tags/v1`],
      ['DELETE', `disks/${ours.id}/tags/${tag.id}`],
      ['POST', `disks/${theirs.id}/rollback`, { tag: 'v1' }],
      ['GET', `disks/${theirs.id}/content`],
      ['GET', `disks/ours/content?tag=v1`],
      ['POST', 'disks', { name: 'stolen', disk: theirs.id }],
      ['POST', 'disks', { name: 'stolen', disk: 'ours', tag: 'v1' }],
    ] as const) {
      const answer = await gateway.ask(method, `/v1/projects/mine/${path}`, { token, body });
      expect([method, path, answer.status]).toEqual([method, path, 404]);
    }
    const projects = gateway.standIns.asked.slice(asked).map(({ project }) => project);
    expect(new Set(projects)).toEqual(new Set([mine.id]));
  });

  it('sees its own nodes and those of all, nothing of their BMCs, and not who else holds them', async () => {
    gateway.standIns.addNode('theirs', other.id);
    const held = gateway.standIns.addNode('shared');
    gateway.standIns.nodes.set(held.id, { ...held, holder: uuidv7(), holderProject: other.id });
    const { body, text } = await gateway.ask('GET', '/v1/nodes', { token: tokens.member });
    const names = (body as { items: { name: string }[] }).items.map(({ name }) => name);
    expect(names).toContain('shared');
    expect(names).not.toContain('theirs');
    expect(text).not.toContain('192.0.2.7');
    expect(text).not.toContain(other.id);
    expect((await gateway.ask('GET', '/v1/nodes/theirs', { token: tokens.member })).status).toBe(404);
    expect((await gateway.ask('GET', '/v1/nodes/theirs', { token: tokens.admin })).text).toContain('192.0.2.7');
  });

  it('sees its own operations and events only', async () => {
    const image = gateway.standIns.addImage('short-lived', other.id);
    const begun = await gateway.ask('DELETE', `/v1/projects/other/images/${image.id}`);
    const operation = begun.body as { id: string };
    await gateway.ended(operation);
    const token = tokens.member;
    for (const [method, path] of [
      ['GET', ''],
      ['POST', '/cancel'],
      ['POST', '/resume'],
    ] as const) {
      const answer = await gateway.ask(method, `/v1/operations/${operation.id}${path}`, { token });
      expect([path, answer.status, answer.body]).toMatchObject([path, 404, { code: 'operation.not_found' }]);
    }
    for (const list of ['operations', 'events']) {
      const narrowed = await gateway.ask('GET', `/v1/${list}?project=other`, { token });
      expect([list, narrowed.status]).toEqual([list, 404]);
      expect((await gateway.ask('GET', `/v1/${list}`, { token })).text).not.toContain(other.id);
    }
    expect((await gateway.ask('GET', '/v1/operations?project=other')).text).toContain(operation.id);
    const projects = await gateway.ask('GET', '/v1/projects', { token });
    expect((projects.body as { items: { name: string }[] }).items.map(({ name }) => name)).toEqual(['mine']);
  });
});

describe('another form of a path', () => {
  it('is the same route, or none: it never leads past the guard', async () => {
    for (const [path, status] of [
      ['/v1/projects/', 401],
      ['/v1/projects?x=1', 401],
      ['/v1/projects;x', 404],
      ['//v1/projects', 404],
      ['/v1//projects', 404],
      ['/V1/projects', 404],
      ['/v1/Projects', 404],
      ['/v1/projects/%2e%2e/tokens', 401],
      ['/v1/%70rojects', 401],
      ['/v1/projects/..%2ftokens', 401],
    ] as const) {
      const response = await gateway.ask('GET', `${gateway.origin}${path}`, { token: undefined });
      expect([path, response.status]).toEqual([path, status]);
    }
  });

  it('asked for with HEAD is guarded as GET is', async () => {
    expect((await gateway.ask('HEAD', '/v1/projects', { token: undefined })).status).toBe(401);
    expect((await gateway.ask('HEAD', '/v1/tokens', { token: tokens.member })).status).toBe(403);
  });

  it.each(closed.map((route) => [route.path, route] as const))(
    'of %s asked for with any other method is not served',
    async (_path, route) => {
      const served = new Set(all.filter(({ path }) => path === route.path).map(({ method }) => method));
      if (served.has('GET')) served.add('HEAD');
      for (const method of ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'] as const) {
        const { status } = await gateway.ask(method, pathOf(route), { token: undefined });
        expect([method, status]).toEqual([method, served.has(method as never) ? 401 : 405]);
      }
    },
  );
});

describe('tokens', () => {
  it('are shown once, listed without their value, and void when they are revoked', async () => {
    const made = await gateway.ask('POST', '/v1/tokens', { body: { name: 'ci', role: 'member', project: 'mine' } });
    expect(made.status).toBe(201);
    const { id, value, ...rest } = made.body as { id: string; value: string };
    expect(rest).toMatchObject({ name: 'ci', role: 'member', project: mine.id });
    expect(value).toMatch(/^m2_[\w-]{43}$/);
    const who = await gateway.ask('GET', '/v1/whoami', { token: value });
    expect(who.body).toEqual({ token: id, name: 'ci', role: 'member', project: mine.id });
    const list = await gateway.ask('GET', '/v1/tokens?limit=500');
    expect(list.text).toContain(id);
    expect(list.text).not.toContain(value);
    expect((await gateway.ask('DELETE', `/v1/tokens/${id}`)).status).toBe(204);
    expect((await gateway.ask('GET', '/v1/whoami', { token: value })).status).toBe(401);
    expect((await gateway.ask('DELETE', `/v1/tokens/${id}`)).status).toBe(404);
    expect((await gateway.ask('GET', '/v1/tokens?limit=500')).text).not.toContain(id);
  });

  it('cannot revoke themselves, nor be made for a project that is not there', async () => {
    const { body } = await gateway.ask('GET', '/v1/whoami');
    const itself = await gateway.ask('DELETE', `/v1/tokens/${(body as { token: string }).token}`);
    expect([itself.status, itself.body]).toMatchObject([400, { code: 'request.invalid' }]);
    const lost = await gateway.ask('POST', '/v1/tokens', { body: { name: 'x', role: 'member', project: 'nowhere' } });
    expect([lost.status, lost.body]).toMatchObject([404, { code: 'project.not_found' }]);
  });

  it('are kept as a hash', async () => {
    const value = await gateway.token('auditor');
    const rows = await gateway.kit.database.query('SELECT to_jsonb(tokens) AS row FROM tokens');
    expect(JSON.stringify(rows)).not.toContain(value);
    expect(JSON.stringify(rows)).not.toContain(Buffer.from(value).toString('hex'));
  });

  it('of the configuration are voided by a new value', async () => {
    const twin = await gateway.replica({
      M2_ADMIN_TOKEN: 'another-admin-token-for-the-same-database',
      M2_INSTANCE: 'twin',
    });
    expect((await gateway.ask('GET', '/v1/whoami')).status).toBe(401);
    await twin.stop();
    await (await gateway.replica({ M2_INSTANCE: 'twin' })).stop();
    expect((await gateway.ask('GET', '/v1/whoami')).status).toBe(200);
  });
});
