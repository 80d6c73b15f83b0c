import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { EventEmitter } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import type { IscsiConfig } from '../config.js';
import { CHANNEL } from './export-portals.js';

const HEARTBEAT_MS = 2_000;
const RECONNECT_MS = 1_000;

interface Listening extends EventEmitter {
  query(text: string): Promise<unknown>;
}

/**
 * This replica as one of several hosts that export the same disks: says that it lives, and hears at once which exports the
 * others changed. What it does not hear, because its connection was away, it finds with its next round.
 */
@Injectable()
export class PortalHost implements OnModuleInit, OnApplicationShutdown {
  private readonly stopping = new AbortController();
  private readonly listeners: ((exportId: string) => void)[] = [];
  private working: Promise<unknown> = Promise.resolve();

  constructor(@Inject(KIT) private readonly kit: Kit<IscsiConfig>) {}

  async onModuleInit(): Promise<void> {
    // A host without a cluster has no disk in common with others.
    if (!this.kit.config.cephConf) return;
    await this.beat();
    this.working = Promise.all([this.keepBeating(), this.keepListening()]);
  }

  /** The targets stay, but nobody is to wait for what this host does not do. */
  async onApplicationShutdown(): Promise<void> {
    this.stopping.abort();
    await this.working;
    if (!this.kit.config.cephConf) return;
    await this.kit.database
      .query('DELETE FROM portal_hosts WHERE host = $1', [this.kit.config.portalHost])
      .catch((error: unknown) => this.kit.log.warn({ err: error }, 'this host could not say that it stops'));
  }

  /** Another host changed an export. */
  onChange(listener: (exportId: string) => void): void {
    this.listeners.push(listener);
  }

  private async beat(): Promise<void> {
    await this.kit.database.query(
      'INSERT INTO portal_hosts VALUES ($1, now()) ON CONFLICT (host) DO UPDATE SET seen_at = now()',
      [this.kit.config.portalHost],
    );
  }

  private async keepBeating(): Promise<void> {
    while (await this.pause(HEARTBEAT_MS))
      await this.beat().catch((error: unknown) => this.kit.log.warn({ err: error }, 'no heartbeat; it is tried again'));
  }

  private async keepListening(): Promise<void> {
    do {
      await this.listen().catch((error: unknown) => {
        if (!this.stopping.signal.aborted)
          this.kit.log.warn({ err: error }, 'changes of exports are not heard of; it is tried again');
      });
    } while (await this.pause(RECONNECT_MS));
  }

  /** Ends when its connection does: a connection of its own, as what one listens to belongs to the connection. */
  private async listen(): Promise<void> {
    const driver = this.kit.database.orm.driver as PostgresDriver;
    const [client, release] = (await driver.obtainMasterConnection()) as [Listening, (broken: boolean) => void];
    const ended = Promise.withResolvers<void>();
    const stop = () => ended.resolve();
    try {
      client.on('error', ended.reject).on('end', stop);
      client.on('notification', ({ payload }: { payload: string }) => {
        const [exportId, host] = payload.split(' ') as [string, string];
        if (host === this.kit.config.portalHost) return;
        for (const listener of this.listeners) listener(exportId);
      });
      this.stopping.signal.addEventListener('abort', stop);
      await client.query(`LISTEN ${CHANNEL}`);
      if (!this.stopping.signal.aborted) await ended.promise;
    } finally {
      this.stopping.signal.removeEventListener('abort', stop);
      release(true);
    }
  }

  /** False when the service stops. */
  private pause(milliseconds: number): Promise<boolean> {
    return delay(milliseconds, true, { signal: this.stopping.signal }).catch(() => false);
  }
}
