import { powerShow } from '@m2/contracts';
import { connect } from '@nats-io/transport-node';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Bus, serversOf } from './bus.js';
import { answer, startNats, testRun, type TestNats, until } from './testing/index.js';

const run = promisify(execFile);
const nodeId = '0198f7a0-0000-7000-8000-000000000001';
const servers: TestNats[] = [];
const buses: Bus[] = [];
let directory: string;
let ca: string;
let otherCa: string;
let config: string;

/** A certificate of localhost that vouches for itself. */
const makeCertificate = async (name: string) => {
  const at = (kind: string) => join(directory, `${name}.${kind}`);
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', at('key')];
  await run('openssl', ['req', '-x509', '-days', '2', ...key, ...subject, '-out', at('pem')]);
  return { pem: at('pem'), key: at('key') };
};

beforeAll(async () => {
  directory = mkdtempSync(join(testRun(), 'tls-'));
  const [own, other] = await Promise.all([makeCertificate('own'), makeCertificate('other')]);
  ca = readFileSync(own.pem, 'utf8');
  otherCa = readFileSync(other.pem, 'utf8');
  config = `tls { cert_file: "${own.pem}", key_file: "${own.key}" }`;
});
afterEach(async () => {
  await Promise.all(buses.splice(0).map((bus) => bus.close()));
  await Promise.all(servers.splice(0).map((server) => server.stop()));
});

const start = async (options?: Parameters<typeof startNats>[0]) => {
  const server = await startNats(options);
  servers.push(server);
  return server;
};
const open = async (service: 'gateway' | 'hil', url: string, trusted?: string) => {
  const bus = await Bus.open({ service, url, ca: trusted });
  buses.push(bus);
  return bus;
};
const secure = (url: string) => url.replace('nats://127.0.0.1', 'tls://localhost');
/** `Bus.open` would try for ever. */
const connectOnce = (url: string, trusted?: string) => connect({ ...serversOf(url, trusted), reconnect: false });

describe('TLS', () => {
  it('carries requests to a server that the given certificate vouches for', async () => {
    const { url } = await start({ config });
    const [asker, service] = await Promise.all([open('gateway', secure(url), ca), open('hil', secure(url), ca)]);
    expect(asker.connection.info).toMatchObject({ tls_required: true });
    answer(service, powerShow, () => ({ power: 'on' }));
    await service.connection.flush();
    expect(await asker.request(powerShow, { nodeId }, { deadlineMs: 5_000 })).toEqual({ power: 'on' });
  });

  it('refuses a server that nobody vouches for, and one that would talk in the clear', async () => {
    const [tls, clear] = await Promise.all([start({ config }), start()]);
    await expect(connectOnce(secure(tls.url), otherCa)).rejects.toThrow(/certificate/);
    await expect(connectOnce(secure(tls.url))).rejects.toThrow(/certificate/);
    await expect(connectOnce(secure(clear.url), ca)).rejects.toThrow(/tls/);
    await expect(connectOnce(secure(clear.url))).rejects.toThrow(/tls/);
  });
});

describe('a server that is not there yet', () => {
  it('is waited for, and why is told', async () => {
    const server = await start();
    await server.halt();
    const reasons: string[] = [];
    const opening = Bus.open({ service: 'gateway', url: server.url, onWait: (why) => reasons.push(String(why)) });
    await until('it is told', () => reasons.length > 0);
    await server.start();
    buses.push(await opening);
    expect(reasons).toEqual([expect.stringMatching(/refused/i)]);
  });
});

describe('several servers', () => {
  it('are tried one after the other, at the start and when one goes', async () => {
    const first = await start({ jetStream: false });
    const second = await start({ jetStream: false });
    const gone = await start({ jetStream: false });
    await gone.halt();
    const [one, two] = await Promise.all([
      open('gateway', `${gone.url},${first.url}`),
      open('gateway', `${first.url},${second.url}`),
    ]);
    expect([one.connection.isClosed(), two.connection.isClosed()]).toEqual([false, false]);
    await first.halt();
    await until('it is at the second server', () => two.connection.getServer() === new URL(second.url).host);
    // The name of the server is known a moment before the connection to it stands.
    await until('it answers', () =>
      two.ping().then(
        () => true,
        () => false,
      ),
    );
  });
});
