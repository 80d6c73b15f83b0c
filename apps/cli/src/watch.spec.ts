import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { exitCodes } from './exit-codes.js';
import { events, ids, operationOf, samples } from './test/gateway.js';
import { accept, operationPath, start } from './test/setup.js';

describe('an operation that is waited for', () => {
  it('shows its steps on standard error and the result on standard output', async () => {
    const { gateway, person } = await start();
    gateway.on('POST /v1/projects/lab/provisions', accept);
    gateway.on(
      operationPath,
      events(
        operationOf('running', { 'clone-disk': 'running', 'power-on': 'waiting' }),
        operationOf('running', { 'clone-disk': 'done', 'power-on': 'running' }),
        operationOf('succeeded', { 'clone-disk': 'done', 'power-on': 'done' }),
      ),
    );
    gateway.on(`GET /v1/projects/lab/provisions/${ids.provision}`, () => samples.provision);
    const { code, out, err } = await person.m2(['provision', 'node-1', '--image', 'debian', '--disk-name', 'web-1']);
    expect(code).toBe(0);
    expect(gateway.asked('POST /v1/projects/lab/provisions')[0]?.body).toEqual({
      node: 'node-1',
      image: 'debian',
      diskName: 'web-1',
      waitFor: 'booted',
    });
    expect(err.split('\n')).toEqual([
      `provision: operation ${ids.operation}`,
      '  clone-disk: running',
      '  clone-disk: done (1.5 s)',
      '  power-on: running',
      '  power-on: done (1.5 s)',
      'provision: succeeded in 2.0 s',
      '',
    ]);
    expect(out).toMatch(/^state +booted$/m);
  });

  it('is one JSON document at its end, also when it failed', async () => {
    const { gateway, person } = await start();
    const failed = operationOf('failed', {}, { error: { code: 'storage.full', detail: 'full' } });
    gateway.on('POST /v1/projects/lab/disks', accept).on(operationPath, events(operationOf('running'), failed));
    const { code, out } = await person.m2(['disk', 'create', 'web-1', '--image', 'debian', '--json']);
    expect(code).toBe(exitCodes.failed);
    expect(JSON.parse(out)).toEqual(failed);
  });

  it('is one JSON document for each change with operation show --watch', async () => {
    const { gateway, person } = await start();
    const states = [operationOf('running', { a: 'running' }), operationOf('succeeded', { a: 'done' })];
    gateway.on(operationPath, events(...states));
    const { code, out } = await person.m2(['operation', 'show', ids.operation, '--watch', '--json']);
    expect(code).toBe(0);
    expect(
      out
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(states);
  });

  it('is not waited for with --no-wait and --wait none', async () => {
    const { gateway, person } = await start();
    gateway.on('POST /v1/projects/lab/provisions', accept).on('POST /v1/projects/lab/images', accept);
    expect((await person.m2(['provision', 'node-1', '--disk', 'web-1', '--wait', 'none'])).out).toBe(
      `${ids.operation}\n`,
    );
    expect((await person.m2(['image', 'import', 'debian', '--file', 'x.qcow2', '--no-wait'])).out).toBe(
      `${ids.operation}\n`,
    );
    expect(gateway.asked('POST /v1/projects/lab/images')[0]?.body).toEqual({
      name: 'debian',
      source: { kind: 'file', path: join(person.home, 'x.qcow2') },
    });
    expect(gateway.asked(operationPath)).toEqual([]);
  });

  it('goes on after Ctrl-C, which says how to come back to it', async () => {
    const { gateway, person } = await start();
    gateway.on('POST /v1/projects/lab/provisions', accept);
    gateway.on(operationPath, (_seen, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`data: ${JSON.stringify(operationOf('running', { 'power-on': 'running' }))}\n\n`);
    });
    const ran = person.m2(['provision', 'node-1', '--image', 'debian']);
    await vi.waitUntil(() => person.err.includes('power-on: running'));
    expect(person.interrupt()).toBe(true);
    const { code, err } = await ran;
    expect(code).toBe(exitCodes.interrupted);
    expect(err).toContain(`m2 operation show ${ids.operation} --watch`);
    expect(err).toContain(`m2 operation cancel ${ids.operation}`);
    expect(gateway.seen.filter(({ method }) => method !== 'GET')).toHaveLength(1);
    expect(person.interrupt()).toBe(false);
  });
});
