import { readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AlreadyRunningError, down, logs, portsOf, status, type SupervisorError } from './index.js';
import { build, Installation, until } from './testing/installation.js';

let installation: Installation;
beforeAll(build);
beforeEach(async () => {
  installation = await Installation.make();
});
afterEach(() => installation.remove());

const state = () => installation.state;
const pids = (children: { pid: number | null }[] = []) => children.map(({ pid }) => pid);
const childOf = async (name: string) => {
  const child = (await status({ state: state() }))?.children.find((one) => one.name === name);
  if (!child) throw new Error(`no ${name}`);
  return child;
};

const killSupervisor = async () => {
  const before = await status({ state: state() });
  process.kill(before?.pid as number, 'SIGKILL');
  await until('the supervisor is gone', async () => (await status({ state: state() })) === undefined);
  return before;
};

describe('up and down', () => {
  it('starts everything, says how it is, and stops it in order without leaving a process', async () => {
    const running = await installation.up();
    expect(running.url).toBe(`http://127.0.0.1:${installation.port}`);
    const seen = await status({ state: state() });
    expect(seen?.phase).toBe('ready');
    expect(seen?.children.map(({ name, state }) => `${name} ${state}`).sort()).toEqual(
      ['boot', 'gateway', 'hil', 'image', 'iscsi', 'nats', 'postgres'].map((name) => `${name} ready`),
    );

    expect(await down({ state: state() })).toBe(true);
    expect(installation.programs()).toEqual([]);
    const stops = installation.journal().filter((line) => line.endsWith(' stop'));
    expect(stops[0]).toBe('gateway stop');
    expect(stops.slice(1).sort()).toEqual(['boot stop', 'hil stop', 'image stop', 'iscsi stop']);
    const databaseLog = readFileSync(join(state(), 'logs/postgres.log'), 'utf8');
    expect(databaseLog).toContain('received fast shutdown request');
    expect(await status({ state: state() })).toBeUndefined();
    expect(await down({ state: state() })).toBe(false);
  });

  it('keeps secrets to itself, and the same ones for the next start', async () => {
    await installation.up();
    const secret = () => readFileSync(join(state(), 'admin-token'), 'utf8');
    const first = secret();
    expect(first).toMatch(/^[0-9a-f]{64}\n$/);
    for (const file of ['admin-token', 'config.json', 'secrets/secret-key', 'nats/passwords.conf', 'run/control.sock'])
      expect(statSync(join(state(), file)).mode & 0o077).toBe(0);
    await down({ state: state() });
    await installation.up();
    expect(secret()).toBe(first);
  });

  it('says so when it runs already', async () => {
    await installation.up();
    const before = await childOf('gateway');
    await expect(installation.up()).rejects.toThrow(AlreadyRunningError);
    expect(await childOf('gateway')).toEqual(before);
  });

  it('lets only one of two that start at the same time win', async () => {
    const outcomes = await Promise.allSettled([installation.up(), installation.up()]);
    const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(lost.map(({ reason }) => reason as unknown)).toEqual([expect.any(AlreadyRunningError)]);
    expect((await status({ state: state() }))?.phase).toBe('ready');
  });

  it('remembers its settings for the next start', async () => {
    await installation.up({ advertise: '10.0.2.2', importDirectories: ['/srv/images'] });
    await down({ state: state() });
    const { settings } = await installation.up({ port: undefined, importDirectories: ['/srv/other'] });
    expect(settings).toMatchObject({
      port: installation.port,
      advertise: '10.0.2.2',
      importDirectories: ['/srv/other'],
    });
  });

  it('names the port that is taken and who has it, before anything starts', async () => {
    const port = portsOf(installation.port).ops.iscsi;
    const other = createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    const error = await installation.up().catch((reason: unknown) => reason as SupervisorError);
    other.close();
    expect(error).toMatchObject({ code: 'supervisor.port_taken' });
    expect((error as Error).message).toContain(`Port ${port} `);
    expect((error as Error).message).toContain(`(process ${process.pid})`);
    expect(installation.programs()).toEqual([]);
  });

  it('refuses a directory that is somebody else’s', async () => {
    await expect(installation.up({ state: '/usr' })).rejects.toMatchObject({ code: 'supervisor.state_unusable' });
    const deep = join(state(), 'd'.repeat(90));
    await expect(installation.up({ state: deep })).rejects.toThrow(/bytes too long/);
  });
});

describe('services that fail', () => {
  it('shows the end of the log of one whose configuration is wrong, and stops the rest', async () => {
    const error = await installation.up({}, { boot: 'exit78' }).catch((reason: unknown) => reason as SupervisorError);
    expect(error).toMatchObject({ code: 'supervisor.child_failed' });
    expect((error as Error).message).toContain('M2_NONSENSE is not set');
    expect(installation.programs()).toEqual([]);
  });

  it('gives up on one that ends again and again at its start', async () => {
    const error = await installation.up({}, { hil: 'exit1' }).catch((reason: unknown) => reason as SupervisorError);
    expect((error as Error).message).toContain('something is broken');
    expect(installation.programs()).toEqual([]);
  });

  it('says what is missing when the time is over', async () => {
    const late = installation.up({ readyDeadlineMs: 15_000 }, { iscsi: 'unready' });
    const error = await late.catch((reason: unknown) => reason as SupervisorError);
    expect(error).toMatchObject({ code: 'supervisor.not_ready' });
    expect((error as Error).message).toContain('iscsi is starting');
    expect((error as Error).message).toContain('tgtd');
    expect((error as Error).message).not.toContain('gateway is');
    expect(installation.programs()).toEqual([]);
  });

  it.each(['image', 'nats', 'postgres'])('starts %s again after it was killed', async (name) => {
    await installation.up();
    const before = await childOf(name);
    process.kill(before.pid as number, 'SIGKILL');
    await until(`${name} is ready again`, async () => {
      const now = await childOf(name);
      return now.state === 'ready' && now.pid !== before.pid;
    });
    expect((await childOf(name)).restarts).toBeGreaterThan(0);
  });
});

describe('a part that hangs', () => {
  const pace = { hungMs: 1_500 };

  it.each(['gateway', 'nats', 'postgres'])('as %s, is told of, ended and started again', async (name) => {
    await installation.up({ pace });
    const before = await childOf(name);
    process.kill(before.pid as number, 'SIGSTOP');
    await until('status says so', async () => {
      const { state: now, waitsFor } = await childOf(name);
      return now === 'unready' && waitsFor !== null;
    });
    await until(`${name} is ready again`, async () => {
      const now = await childOf(name);
      return now.state === 'ready' && now.pid !== before.pid;
    });
    expect(readFileSync(join(state(), 'logs/supervisor.log'), 'utf8')).toMatch(
      new RegExp(`${name} hangs: it did not answer`),
    );
  });

  it('is left alone when it answers, and is not ready', async () => {
    await installation.up({ pace }, { hil: 'loses-bmc' });
    const before = await childOf('hil');
    await until('status says what it waits for', async () => {
      const { state: now, waitsFor } = await childOf('hil');
      return now === 'unready' && waitsFor === 'bmc (does not answer)';
    });
    await until('it is ready again', async () => (await childOf('hil')).state === 'ready');
    expect((await childOf('hil')).pid).toBe(before.pid);
  });

  it('tells what a person has to know', async () => {
    await installation.up({ pace }, { image: 'alarmed' });
    await until('it is told', async () => (await childOf('image')).alarms.length > 0);
    expect(await childOf('image')).toMatchObject({ state: 'ready', alarms: ['events have waited for 61 s'] });
  });
});

describe('a supervisor that was killed', () => {
  it('is replaced by the next up, with new processes', async () => {
    await installation.up();
    const before = await killSupervisor();
    expect(installation.programs().length).toBeGreaterThanOrEqual(7);
    const lines: string[] = [];
    await installation.up({}, {}, (line) => lines.push(line));
    expect(lines.join('\n')).toMatch(/a killed supervisor had left: .*nats-server/);
    const now = await status({ state: state() });
    expect(pids(now?.children).filter((pid) => pids(before?.children).includes(pid))).toEqual([]);
    expect(installation.journal().filter((line) => line === 'image stop')).toHaveLength(1);
  });

  it('leaves nothing that down does not find', async () => {
    await installation.up();
    await killSupervisor();
    expect(await down({ state: state() })).toBe(true);
    expect(installation.programs()).toEqual([]);
  });
});

describe('logs', () => {
  it('follows what the services write', async () => {
    await installation.up();
    const stop = new AbortController();
    const seen: string[] = [];
    const following = (async () => {
      for await (const { line } of logs('nats', { state: state(), follow: true, signal: stop.signal })) seen.push(line);
    })();
    await until('the old lines came', () => seen.some((line) => line.includes('Server is ready')));
    const count = seen.length;
    process.kill((await childOf('nats')).pid as number, 'SIGHUP');
    await until('a new line came', () => seen.length > count);
    stop.abort();
    await following;
    const unknown = logs('nothing', { state: state() }).next();
    await expect(unknown).rejects.toMatchObject({ code: 'supervisor.bad_option' });
  });
});
