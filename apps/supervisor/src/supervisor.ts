import { type ServiceName, serviceNames } from '@m2/contracts';
import { setTimeout as pause } from 'node:timers/promises';
import { Child, type Pace } from './child.js';
import { Control, type Status } from './control.js';
import { SupervisorError } from './errors.js';
import { endLeftovers, endStorage } from './leftovers.js';
import { limitLogs, writeLine } from './logs.js';
import { natsSpec } from './nats.js';
import { type GivenSettings, portsOf, resolveSettings, type Settings } from './options.js';
import { checkPorts } from './ports.js';
import { Postgres } from './postgres.js';
import { ensureSecrets } from './secrets.js';
import { type ServiceEnvironments, serviceMains, serviceSpecs } from './services.js';
import type { Paths } from './state.js';

export interface Launch {
  settings: GivenSettings;
  /** More environment for single services, and other programs in their place; not remembered. */
  env: ServiceEnvironments;
  mains: Partial<Record<ServiceName, string>>;
  /** How long the services may take to become ready. */
  readyDeadlineMs: number;
  /** How patient the supervisor is with its parts; for tests. */
  pace?: Pace | undefined;
}

const logLimitEveryMs = 10_000;

/** Starts the parts of one installation in order, keeps them running, and stops them in order. */
export class Supervisor {
  private readonly children: Partial<Record<'postgres' | 'nats' | ServiceName, Child>> = {};
  private readonly since = new Date().toISOString();
  private phase: Status['phase'] = 'starting';
  private settings: Settings | null = null;
  private pace: Pace | undefined;
  private starting: Promise<void> | undefined;
  private control: Control | undefined;
  private logTimer: NodeJS.Timeout | undefined;
  private stopped: Promise<void> | undefined;
  private readonly ending = Promise.withResolvers<void>();

  constructor(
    private readonly paths: Paths,
    private readonly tell: (line: string) => void,
  ) {}

  /** Resolves when everything was stopped; rejects when something could not be. */
  get ended(): Promise<void> {
    return this.ending.promise;
  }

  /**
   * Resolves when every service is ready. When that fails, everything that was started is stopped before it throws.
   * Throws SupervisorError.
   */
  async start(launch: Launch): Promise<Settings> {
    // First, because the next lines end the processes of this state directory.
    this.control = await Control.take(this.paths, {
      status: () => this.status(),
      stop: () => void this.stop().catch(() => {}),
    });
    try {
      return await this.startAll(launch);
    } catch (error) {
      await this.stop().catch((stuck: unknown) => this.report(String(stuck)));
      throw error;
    }
  }

  status(): Status {
    return {
      phase: this.phase,
      pid: process.pid,
      since: this.since,
      settings: this.settings,
      children: Object.values(this.children).map((child) => child.status()),
    };
  }

  /** Stops everything, in order; a second call waits for the first. Rejects when a process did not die. */
  stop(): Promise<void> {
    this.stopped ??= this.stopAll().finally(() => this.control?.close());
    this.stopped.then(this.ending.resolve, this.ending.reject);
    return this.stopped;
  }

  private async startAll(launch: Launch): Promise<Settings> {
    const settings = resolveSettings(this.paths, launch.settings);
    this.settings = settings;
    this.pace = launch.pace;
    const left = await endLeftovers(this.paths);
    if (left.length > 0) this.report(`ended what a killed supervisor had left: ${left.join(', ')}`);
    await checkPorts(settings);
    ensureSecrets(this.paths);
    this.logTimer = setInterval(() => void limitLogs(this.paths), logLimitEveryMs).unref();
    this.starting = this.startParts(settings, launch);
    await Promise.race([this.starting, this.tooLate(launch.readyDeadlineMs)]);
    this.refuseWhenStopping();
    this.phase = 'ready';
    this.report('everything is ready');
    return settings;
  }

  private async startParts(settings: Settings, launch: Launch): Promise<void> {
    this.report('starting PostgreSQL and NATS');
    const nats = natsSpec(this.paths, portsOf(settings.port).nats);
    await Promise.all([this.startDatabase(), this.startChild('nats', nats)]);
    this.report('starting the services');
    const specs = serviceSpecs(this.paths, settings, { ...serviceMains, ...launch.mains }, launch.env);
    await Promise.all(serviceNames.map((name) => this.startChild(name, specs[name])));
  }

  private async startDatabase(): Promise<void> {
    const postgres = await Postgres.prepare(this.paths);
    await this.startChild('postgres', postgres.spec);
    await postgres.bootstrap();
  }

  private async startChild(name: keyof Supervisor['children'], spec: Child['spec']): Promise<void> {
    this.refuseWhenStopping();
    const child = new Child(spec, this.paths, (line) => this.report(line), this.pace);
    this.children[name] = child;
    await child.start();
  }

  private refuseWhenStopping(): void {
    if (this.stopped)
      throw new SupervisorError('supervisor.stopped', 'M2 was stopped while it started', 'Start it again.');
  }

  private async tooLate(deadlineMs: number): Promise<never> {
    await pause(deadlineMs, undefined, { ref: false });
    const late = Object.values(this.children).filter((child) => child.status().state !== 'ready');
    throw new SupervisorError(
      'supervisor.not_ready',
      `Not everything was ready within ${deadlineMs / 1000} s:\n${late.map((child) => child.whyNotReady()).join('\n')}`,
      `The whole logs are in ${this.paths.logs}.`,
    );
  }

  /**
   * Stops the gateway first, so that no new work comes; then the services that it asks; then the disks, which those services looked after;
   * then what all of them needed.
   */
  private async stopAll(): Promise<void> {
    this.phase = 'stopping';
    clearInterval(this.logTimer);
    this.report('stopping');
    await this.stopChildren('gateway');
    await this.stopChildren('hil', 'boot', 'iscsi', 'image');
    await endStorage(this.paths);
    await this.stopChildren('nats');
    await this.stopChildren('postgres');
    // An interrupted start may still be creating the database: the next start must not find half of it.
    await this.starting?.catch(() => {});
    // Processes that a killed service had started.
    await endLeftovers(this.paths);
    this.report('everything is stopped');
  }

  private async stopChildren(...names: (keyof Supervisor['children'])[]): Promise<void> {
    await Promise.all(names.map((name) => this.children[name]?.stop()));
  }

  private report(line: string): void {
    writeLine(this.paths, 'supervisor', line);
    this.tell(line);
  }
}
