import type { ServiceName } from '@m2/contracts';
import { status } from '@m2/supervisor';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, type TestInstallation } from '../installation.js';
import type { KillPoint } from '../kill-switch.js';
import { tgtdsOf } from '../observed-state.js';
import { type Action, type FaultKind, services, twice } from './plan.js';
import type { SmallDisk } from '../small-disk.js';

type Fault = Extract<Action, { fault: unknown }>;

/** Breaks parts of an installation, and mends them again. What is broken already is left alone. */
export class Faults {
  /** What is stopped by SIGSTOP. */
  private readonly stopped = new Set<number>();
  private supervising: Promise<void> | undefined;
  /** Nodes whose BMC lied: nobody can know whether they are on. */
  readonly doubtful = new Set<string>();

  constructor(
    private readonly installation: TestInstallation,
    private readonly smallDisk: SmallDisk | undefined,
  ) {}

  /** Says what was broken, or why nothing was. */
  async make(fault: Fault): Promise<string> {
    return this.makers[fault.fault](fault);
  }

  private readonly makers: Record<FaultKind, (fault: Fault) => Promise<string>> = {
    kill: (fault) => this.signal(fault, 'SIGKILL'),
    'kill-at': async (fault) => this.arm(fault.service === 'gateway' ? 'image' : fault.service, commandPoint(fault)),
    'kill-gateway-at': async (fault) => this.arm('gateway', stepPoint(fault)),
    pause: (fault) => this.pause(fault),
    'pause-at': async (fault) => this.pauseAt('hil', commandPoint(fault), fault.forMs),
    'pause-gateway-at': async (fault) => this.pauseAt('gateway', stepPoint(fault), fault.forMs),
    'postgres-immediate': () => this.signalChild('postgres', 'SIGQUIT'),
    'postgres-kill': () => this.signalChild('postgres', 'SIGKILL'),
    'nats-kill': () => this.signalChild('nats', 'SIGKILL'),
    'nats-pause': async ({ forMs }) => this.pausePid(await this.pidOf('nats'), forMs),
    'supervisor-kill': async ({ forMs }) => {
      const found = await status({ state: this.installation.stage.state });
      const done = kill(found?.pid, 'SIGKILL');
      void pause(forMs / 4, undefined, { ref: false }).then(() => this.supervise().catch(() => {}));
      return done;
    },
    'disk-full': async ({ forMs }) => {
      if (!this.smallDisk) return 'no file system to fill (needs root)';
      this.smallDisk.fill();
      void pause(forMs, undefined, { ref: false }).then(() => this.smallDisk?.makeRoom());
      return 'full';
    },
    'tgtd-kill': async ({ node }) => {
      const tgtds = await tgtdsOf(join(this.installation.stage.state, 'targets'));
      return kill(tgtds[node % Math.max(1, tgtds.length)]?.pid, 'SIGKILL');
    },
    'storage-daemon-kill': async () => {
      const file = join(this.installation.stage.state, 'storage/daemon.json');
      const record = await readFile(file, 'utf8').catch(() => '{}');
      return kill((JSON.parse(record) as { pid?: number }).pid, 'SIGKILL');
    },
    'bmc-silent': (fault) => this.breakBmc(fault, 'dead'),
    'bmc-ignores': (fault) => this.breakBmc(fault, 'ignores'),
    'bmc-lies': (fault) => this.breakBmc(fault, 'lies'),
  };

  /** When all is quiet, nobody asks for anything that would bring a target back by the way. */
  async killTargets(): Promise<void> {
    for (const { pid } of await tgtdsOf(join(this.installation.stage.state, 'targets'))) kill(pid, 'SIGKILL');
  }

  /** All that was broken is well: everything runs, and every BMC does as it is told. */
  async end(): Promise<void> {
    for (const service of services) this.installation.killSwitch(service).disarm();
    for (const pid of this.stopped) kill(pid, 'SIGCONT');
    this.stopped.clear();
    for (const service of twice) await this.resume(service);
    for (const node of this.installation.stage.lab.nodes) await node.setBmcMode('ok');
    this.smallDisk?.makeRoom();
    await this.supervise();
    await eventually('all parts to be ready', async () => {
      const found = await status({ state: this.installation.stage.state });
      return found?.children.every(({ state }) => state === 'ready') ? true : undefined;
    });
  }

  /** Only one at a time: they would be in each other's way. One that cannot start, as on a full disk, is started again. */
  private supervise(): Promise<void> {
    this.supervising ??= eventually('a supervisor', () => this.installation.supervise().then(() => true as const))
      .then(() => {})
      .finally(() => (this.supervising = undefined));
    return this.supervising;
  }

  private arm(service: ServiceName, point: KillPoint): string {
    this.installation.killSwitch(service).arm(point);
    return `${service} armed`;
  }

  /** Of two processes, whichever comes there first stands still. The other one goes on, with what the first one had as well. */
  private pauseAt(service: ServiceName, point: KillPoint, forMs: number): string {
    void pause(forMs, undefined, { ref: false }).then(() => this.resume(service).catch(() => {}));
    return this.arm(service, { ...point, signal: 'SIGSTOP' });
  }

  private async resume(service: ServiceName): Promise<void> {
    for (const pid of [await this.pidOf(service), this.installation.second(service).pid])
      if (pid !== undefined && !this.stopped.has(pid)) kill(pid, 'SIGCONT');
  }

  private async pidOf(name: string): Promise<number | undefined> {
    const found = await status({ state: this.installation.stage.state });
    return found?.children.find((child) => child.name === name)?.pid ?? undefined;
  }

  private async signalChild(name: string, signal: NodeJS.Signals): Promise<string> {
    return kill(await this.pidOf(name), signal);
  }

  /** Of a service that runs twice, either process. */
  private async victim({ service, node }: Fault): Promise<number | undefined> {
    return twice.includes(service) && node % 2 === 1 ? this.installation.second(service).pid : this.pidOf(service);
  }

  private async signal(fault: Fault, signal: NodeJS.Signals): Promise<string> {
    return kill(await this.victim(fault), signal);
  }

  private async pause(fault: Fault): Promise<string> {
    return this.pausePid(await this.victim(fault), fault.forMs);
  }

  private pausePid(pid: number | undefined, forMs: number): string {
    if (pid === undefined || this.stopped.has(pid)) return 'nothing to pause';
    const done = kill(pid, 'SIGSTOP');
    this.stopped.add(pid);
    void pause(forMs, undefined, { ref: false }).then(() => {
      if (this.stopped.delete(pid)) kill(pid, 'SIGCONT');
    });
    return done;
  }

  private async breakBmc({ node: place, forMs }: Fault, mode: 'dead' | 'ignores' | 'lies'): Promise<string> {
    const node = this.installation.stage.lab.nodes[place]!;
    if (mode === 'lies') this.doubtful.add(this.installation.stage.nodes[place]!.id);
    await node.setBmcMode(mode);
    void pause(forMs, undefined, { ref: false }).then(() => node.setBmcMode('ok').catch(() => {}));
    return `${node.name} ${mode}`;
  }
}

const commandPoint = ({ phase, withinMs }: Fault): KillPoint =>
  phase === 'within'
    ? { channel: 'm2:command', at: { phase: 'begin' }, afterMs: withinMs }
    : { channel: 'm2:command', at: { phase } };
const stepPoint = ({ phase }: Fault): KillPoint => ({ channel: 'm2:operation:step', at: { phase } });

function kill(pid: number | undefined, signal: NodeJS.Signals): string {
  if (pid === undefined) return 'nothing to signal';
  try {
    process.kill(pid, signal);
    return `${signal} ${pid}`;
  } catch {
    return `${pid} is gone`;
  }
}
