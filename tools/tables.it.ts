import { allExpiring, Database, type Expiring, type MigrationClass } from '@m2/service-kit';
import { sharedPostgres } from '@m2/service-kit/testing';
import { describe, expect, it } from 'vitest';
import { gatewayMigrations } from '../services/api-gateway/src/migrations.js';
import { gatewayExpiring } from '../services/api-gateway/src/retention.js';
import { bootMigrations } from '../services/boot-svc/src/migrations.js';
import { hilMigrations } from '../services/hil-adapter/src/migrations.js';
import { migrations as imageMigrations } from '../services/image-svc/src/migrations.js';
import { imageExpiring } from '../services/image-svc/src/retention.js';
import { iscsiMigrations } from '../services/iscsi-svc/src/migrations.js';
import { iscsiExpiring } from '../services/iscsi-svc/src/retention.js';

interface Service {
  migrations: MigrationClass[];
  expiring: Expiring[];
  /** Tables whose rows do not go by their age, or with the row that they belong to: who removes them. */
  removedBy: Record<string, string>;
}

const life = { retentionDays: 90, retentionDirectory: '/somewhere' };
const nobody = {
  m2_migrations: 'Nobody: it has a row for each change of the schema.',
  m2_turns: 'Nobody: it has a row for each kind of turn.',
};

const services: Record<string, Service> = {
  gateway: {
    migrations: gatewayMigrations,
    expiring: gatewayExpiring(life),
    removedBy: {
      projects: 'A person (Projects.delete).',
      saga_runners: 'A living runner, a minute after one died (Claims.parkUnknown).',
    },
  },
  image: {
    migrations: imageMigrations,
    expiring: imageExpiring(life),
    removedBy: {
      installation: 'Nobody: it has one row.',
      images: 'A person (ImageRemover).',
      disks: 'A person, or the end of their time in the trash (DiskRemover).',
      tags: 'A person, or what was made from them (TagRemover), or their disk (DiskRemover).',
      former_volumes: 'Their last tag (TagRemover.settle), or their disk (DiskRemover).',
      ceph_clients: 'The next life of the service, which shuts them out (CephClients).',
      quotas: 'The end of their project (Reclaimer.endProjects).',
      findings: 'The check that does not find them any more (StorageCheck).',
      ended_projects: 'The storage that keeps nothing for them any more (Reclaimer).',
    },
  },
  iscsi: {
    migrations: iscsiMigrations,
    expiring: iscsiExpiring(life),
    removedBy: { exports: 'A deprovision (ExportHandlers).' },
  },
  boot: { migrations: bootMigrations, expiring: [], removedBy: { boot_configs: 'A deprovision (ConfigHandlers).' } },
  hil: { migrations: hilMigrations, expiring: [], removedBy: { nodes: 'A person (NodeHandlers.remove).' } },
};

/** A few rows, however old: no index is needed to find the oldest. */
const small = new Set(['portal_hosts', 'm2_leases', 'm2_parked_events', 'm2_processes']);

describe.each(Object.entries(services))('the tables of %s', (_name, { migrations, expiring, removedBy }) => {
  it('grow for ever in no case: somebody removes the rows of each', async () => {
    const url = await (await sharedPostgres()).database();
    const database = await Database.open({ url, poolSize: 2, applicationName: 'test', migrations, entities: [] });
    try {
      const expires = allExpiring(expiring);
      const names = async (text: string) =>
        (await database.query<{ name: string }>(text)).map(({ name }) => name).toSorted();
      const tables = await names(`SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema()`);
      // With the row that theirs belongs to.
      const cascade = await names(
        `SELECT DISTINCT conrelid::regclass::text AS name FROM pg_constraint WHERE contype = 'f' AND confdeltype = 'c'`,
      );
      const cared = new Set([
        ...expires.map(({ table }) => table),
        ...cascade,
        ...Object.keys({ ...nobody, ...removedBy }),
      ]);
      expect(tables.filter((table) => !cared.has(table))).toEqual([]);
      expect([...cared].filter((table) => !tables.includes(table))).toEqual([]);
      // What goes by its age has one, and the oldest are found by an index.
      for (const { table, since, days } of expires) {
        expect({ table, days }).not.toEqual({ table, days: undefined });
        const leading = await names(
          `SELECT a.attname AS name FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
           WHERE i.indrelid = '${table}'::regclass`,
        );
        expect({ table, found: small.has(table) || leading.includes(since) }).toEqual({ table, found: true });
      }
    } finally {
      await database.close();
    }
  });
});
