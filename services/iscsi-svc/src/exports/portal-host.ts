import { type Kit, KIT, Periodic } from '@m2/service-kit';
import { Inject, Injectable, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import type { EventEmitter } from 'node:events';
import type { PostgresDriver } from 'typeorm/driver/postgres/PostgresDriver.js';
import type { IscsiConfig } from '../config.js';
import { CHANNEL } from './export-portals.js';

const HEARTBEAT_MS = 2_000;
const RECONNECT_MS = 1_000;

interface Listening extends EventEmitter {
  query(text: string): Promise<unknown>;
}

/**
 * This replica as one of several hosts that export the same disks. Records that it is alive, and hears at once which exports the others
 * changed. What it misses while its connection is down, its next round finds.
 */
@Injectable()
export class PortalHost implements OnModuleInit, OnApplicationShutdown {
  private readonly listeners: ((exportId: string) => void)[] = [];
  private readonly heartbeat: Periodic;
  private readonly listening: Periodic;

  constructor(@Inject(KIT) private readonly kit: Kit<IscsiConfig>) {
    this.heartbeat = new Periodic({
      everyMs: HEARTBEAT_MS,
      work: () => this.beat(),
      onError: (err) => kit.log.warn({ err }, 'the heartbeat failed; it is tried again'),
    });
    this.listening = new Periodic({
      everyMs: RECONNECT_MS,
      work: (signal) => this.listen(signal),
      onError: (err) => kit.log.warn({ err }, 'could not listen for changes of exports; it is tried again'),
    });
  }

  async onModuleInit(): Promise<void> {
    // A host without a cluster shares no disk with others.
    if (!this.kit.config.cephConf) return;
    await this.beat();
    this.heartbeat.start();
    this.listening.start();
    this.listening.wake();
  }

  /** The targets stay, but nobody must wait for this host any more. */
  async onApplicationShutdown(): Promise<void> {
    await Promise.all([this.heartbeat.stop(), this.listening.stop()]);
    if (!this.kit.config.cephConf) return;
    await this.kit.database
      .query('DELETE FROM portal_hosts WHERE host = $1', [this.kit.config.portalHost])
      .catch((error: unknown) => this.kit.log.warn({ err: error }, 'could not record that this host stops'));
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

  /** Returns when its connection ends or `signal` aborts. It has a connection of its own, because LISTEN belongs to a connection. */
  private async listen(signal: AbortSignal): Promise<void> {
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
      signal.addEventListener('abort', stop);
      await client.query(`LISTEN ${CHANNEL}`);
      if (!signal.aborted) await ended.promise;
    } finally {
      signal.removeEventListener('abort', stop);
      release(true);
    }
  }
}
