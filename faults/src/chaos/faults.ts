import type { ServiceName } from '@m2/contracts';
import { status } from '@m2/supervisor';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually, type TestInstallation } from '../installation.js';
import { tgtdsOf } from '../observed-state.js';
import type { Action, FaultKind } from './plan.js';
import type { SecondGateway } from './second-gateway.js';
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
    private readonly second: SecondGateway,
    private readonly smallDisk: SmallDisk | undefined,
  ) {}

  /** Says what was broken, or why nothing was. */
  async make(fault: Fault): Promise<string> {
    return this.makers[fault.fault](fault);
  }

  private readonly makers: Record<FaultKind, (fault: Fault) => Promise<string>> = {
    kill: (fault) => this.signal(fault, 'SIGKILL'),
    'kill-at': async ({ service, phase }) => this.arm(service === 'gateway' ? 'image' : service, 'm2:command', phase),
    'kill-gateway-at': async ({ phase }) => this.arm('gateway', 'm2:operation:step', phase),
    pause: (fault) => this.pause(fault),
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

  /** All that was broken is well: everything runs, and every BMC does as it is told. */
  async end(): Promise<void> {
    for (const service of ['gateway', 'image', 'iscsi', 'boot', 'hil'] as const)
      this.installation.killSwitch(service).disarm();
    for (const pid of this.stopped) kill(pid, 'SIGCONT');
    this.stopped.clear();
    for (const node of this.installation.stage.lab.nodes) await node.setBmcMode('ok');
    this.smallDisk?.makeRoom();
    // It gives up when a part that it starts is broken meanwhile.
    await this.supervise().catch(() => this.supervise());
    await this.second.start();
    await eventually('all parts to be ready', async () => {
      const found = await status({ state: this.installation.stage.state });
      return found?.children.every(({ state }) => state === 'ready') ? true : undefined;
    });
  }

  /** Only one at a time: they would be in each other's way. */
  private supervise(): Promise<void> {
    this.supervising ??= this.installation.supervise().finally(() => (this.supervising = undefined));
    return this.supervising;
  }

  private arm(service: ServiceName, channel: 'm2:command' | 'm2:operation:step', phase: string): string {
    this.installation.killSwitch(service).arm({ channel, at: { phase } });
    return `${service} armed`;
  }

  private async pidOf(name: string): Promise<number | undefined> {
    const found = await status({ state: this.installation.stage.state });
    return found?.children.find((child) => child.name === name)?.pid ?? undefined;
  }

  private async signalChild(name: string, signal: NodeJS.Signals): Promise<string> {
    return kill(await this.pidOf(name), signal);
  }

  /** Of the two gateways either. */
  private async victim({ service, node }: Fault): Promise<number | undefined> {
    return service === 'gateway' && node % 2 === 1 ? this.second.pid : this.pidOf(service);
  }

  private async signal(fault: Fault, signal: NodeJS.Signals): Promise<string> {
    const pid = await this.victim(fault);
    const done = kill(pid, signal);
    if (pid !== undefined && pid === this.second.pid) void pause(500).then(() => this.second.start().catch(() => {}));
    return done;
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

function kill(pid: number | undefined, signal: NodeJS.Signals): string {
  if (pid === undefined) return 'nothing to signal';
  try {
    process.kill(pid, signal);
    return `${signal} ${pid}`;
  } catch {
    return `${pid} is gone`;
  }
}
