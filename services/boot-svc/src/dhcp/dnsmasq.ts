import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { installBootPrograms } from './boot-programs.js';
import { dnsmasqConfig, hostsFile, type DhcpConfig, type DhcpNetwork, type StaticHost } from './dnsmasq-config.js';
import { endLeftover } from './leftover.js';

export interface DnsmasqOptions {
  network: DhcpNetwork;
  /** Where the HTTP service is that serves scripts, as seen by nodes. */
  http: DhcpConfig['http'];
  /** A directory of our own that outlives us: the leases are in it. No two services may share one. */
  dir: string;
  hosts?: StaticHost[];
  /** Gets each line that dnsmasq logs, and what happens to dnsmasq. */
  log(line: string): void;
}

/** DHCP or TFTP cannot be served. */
export class DhcpUnavailable extends Error {
  override readonly name = 'DhcpUnavailable';
  readonly code = 'service.unavailable';
}

const START_MS = 10_000;
const RESTART_MS = 1000;

/** DHCP and TFTP on one network by a dnsmasq of our own, which is started again when it dies. Needs root. */
export class Dnsmasq {
  #child: ChildProcess | undefined;
  #stopping = new AbortController();
  #kept: Promise<void> = Promise.resolve();
  #rewriting: Promise<void> = Promise.resolve();
  #recent: string[] = [];
  readonly #listeners = new Set<(line: string) => void>();
  readonly #conf: string;
  readonly #hosts: string;

  private constructor(private readonly options: DnsmasqOptions) {
    const dir = resolve(options.dir);
    this.#conf = join(dir, 'dnsmasq.conf');
    this.#hosts = join(dir, 'hosts');
  }

  /**
   * Returns when nodes are served. Ends a dnsmasq that an earlier process of this service left behind. Rejects with `DhcpUnavailable` and
   * dnsmasq's own words (not root, no such interface, …), and with `UnsafeDhcpValue` for a value that it could misread.
   */
  static async start(options: DnsmasqOptions): Promise<Dnsmasq> {
    const dnsmasq = new Dnsmasq(options);
    await dnsmasq.#prepare();
    await endLeftover(dnsmasq.#argument);
    try {
      await dnsmasq.#launch();
    } catch (error) {
      await dnsmasq.stop();
      throw error;
    }
    dnsmasq.#kept = dnsmasq.#keep();
    return dnsmasq;
  }

  /** Whether it runs now; between its death and its restart it does not. */
  get serving(): boolean {
    return this.#child !== undefined;
  }

  /** Replaces all static hosts. Returns when dnsmasq has read them; leases that were given stay as they are. */
  setHosts(hosts: StaticHost[]): Promise<void> {
    const text = hostsFile(hosts);
    // One after the other: dnsmasq says that it has read the file, but not which version.
    const rewriting = this.#rewriting.then(async () => {
      await this.#write(this.#hosts, text);
      const read = this.#line((line) => line.endsWith(`read ${this.#hosts}`), 'did not read its static hosts again');
      // A dnsmasq that is down reads the file when it starts.
      this.#child?.kill('SIGHUP');
      await read;
    });
    this.#rewriting = rewriting.catch(() => {});
    return rewriting;
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    const child = this.#child;
    if (child) {
      const exit = once(child, 'exit');
      child.kill('SIGTERM');
      await exit;
    }
    await this.#kept;
  }

  get #argument(): string {
    return `--conf-file=${this.#conf}`;
  }

  async #prepare(): Promise<void> {
    const dir = dirname(this.#conf);
    const tftpRoot = join(dir, 'tftp');
    await mkdir(dir, { recursive: true, mode: 0o755 });
    // dnsmasq gives up root and then reads the static hosts and the boot programs; the lease file it keeps open.
    const user = (await isOpenToAll(dir)) ? undefined : 'root';
    const { network, http, hosts = [] } = this.options;
    const leaseFile = join(dir, 'leases');
    const config = dnsmasqConfig({ ...network, http, leaseFile, hostsFile: this.#hosts, tftpRoot, user });
    await this.#write(this.#hosts, hostsFile(hosts));
    await this.#write(this.#conf, config);
    await installBootPrograms(tftpRoot);
    if (user) this.options.log(`dnsmasq stays root, as others may not enter ${dir}`);
  }

  async #write(file: string, text: string): Promise<void> {
    await writeFile(`${file}.new`, text, { mode: 0o644 });
    await rename(`${file}.new`, file);
  }

  async #launch(): Promise<void> {
    const args = ['--keep-in-foreground', '--log-facility=-', this.#argument];
    const env = { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
    const child = spawn('dnsmasq', args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    await Promise.race([once(child, 'spawn'), once(child, 'error')]);
    if (child.pid === undefined)
      throw new DhcpUnavailable('dnsmasq is not installed. Install the package dnsmasq-base.');
    this.#child = child;
    child.once('exit', () => (this.#child = undefined));
    const started = this.#line((line) => line.includes(': started, '), 'did not start', child);
    createInterface({ input: child.stderr }).on('line', (line) => this.#hear(line));
    await started;
  }

  /** Starts it again for as long as we live. */
  async #keep(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      try {
        if (this.#child) await once(this.#child, 'exit');
        if (signal.aborted) return;
        this.options.log('dnsmasq ended and is started again');
        await pause(RESTART_MS, undefined, { signal });
        await this.#launch();
      } catch (error) {
        if (!signal.aborted) this.options.log(String(error));
      }
    }
  }

  #hear(line: string): void {
    this.#recent = [...this.#recent.slice(-4), line];
    this.options.log(line);
    for (const listener of this.#listeners) listener(line);
  }

  /** The next line that passes the test; rejects after 10 seconds, and at once when `child` ends. */
  #line(test: (line: string) => boolean, failure: string, child?: ChildProcess): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = () => {
        done();
        reject(new DhcpUnavailable(`dnsmasq ${failure}: ${this.#recent.join('; ') || 'it said nothing'}`));
      };
      const listener = (line: string) => {
        if (!test(line)) return;
        done();
        resolve();
      };
      const timer = setTimeout(fail, START_MS);
      const done = () => {
        clearTimeout(timer);
        this.#listeners.delete(listener);
        child?.off('close', fail);
      };
      // `close`, not `exit`: it comes after the last line, which says why it ended.
      child?.once('close', fail);
      this.#listeners.add(listener);
    });
  }
}

/** Whether every user may enter a directory. */
async function isOpenToAll(dir: string): Promise<boolean> {
  if (((await stat(dir)).mode & 0o001) === 0) return false;
  return dir === dirname(dir) || isOpenToAll(dirname(dir));
}
