import type { UpOptions } from '@m2/supervisor';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Act } from '../app.js';
import { usageError } from '../errors.js';
import { parseCount } from '../output/units.js';
import { startInstallation } from '../stage/installation.js';
import { withSupervisor } from './installation.js';
import { repeatable } from '../options.js';
import { addStorageOptions, type StorageFlags, takeStorage } from './storage-options.js';

interface UpFlags
  extends Omit<UpOptions, 'importDirectories' | 'importHosts' | 'foreignVolumes' | 'state' | 'storage'>, StorageFlags {
  importFrom?: string[];
  importHost?: string[];
  foreignVolumes?: string[];
}

/** Throws a usage error for what is no directory: nothing could ever be imported from it. */
function directory(cwd: string, text: string): string {
  const path = resolve(cwd, text);
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return path;
  throw usageError(`--import-from: ${path} is not a directory`, 'Make it, or name one that is there.');
}

const asGiven = (text: string) => text;

/** `INTERFACE:FIRST,LAST` */
function parseDhcp(text: string): { interface: string; range: string } {
  const [name, range, ...rest] = text.split(':');
  if (!name || !range || rest.length > 0) throw new InvalidArgumentError('Give INTERFACE:FIRST,LAST.');
  return { interface: name, range };
}

/** `m2 up`: what is given is remembered in the state directory for the next start. */
export function upCommand(program: Command, act: Act): void {
  const command = program
    .command('up')
    .description('start M2 on this machine; Ctrl-C stops it')
    .addOption(new Option('--port <port>', 'the first port; the API is there (7400)').argParser(parseCount))
    .option('--detach', 'return when it is ready, and leave it running')
    .option('--listen <address>', 'where the API listens (127.0.0.1)')
    .option('--provisioning-address <address>', 'where nodes reach the boot server and iSCSI (127.0.0.1)')
    .option('--advertise <address>', 'what nodes are told to reach us at (the provisioning address)')
    .addOption(
      new Option('--dhcp <interface:range>', 'serve DHCP and TFTP on a network that is ours').argParser(parseDhcp),
    )
    .addOption(repeatable(new Option('--import-from <dir>', 'images may be imported from here (repeatable)'), asGiven))
    .addOption(
      repeatable(new Option('--import-host <host>', 'images may be downloaded from here (repeatable)'), asGiven),
    )
    .addOption(
      repeatable(
        new Option(
          '--foreign-volumes <pool>',
          'tenants may import from and export to volumes in this pool or namespace (repeatable)',
        ),
        asGiven,
      ),
    )
    .addOption(
      new Option('--log-level <level>', 'how much is logged (info)').choices([
        'trace',
        'debug',
        'info',
        'warn',
        'error',
      ]),
    );
  addStorageOptions(command).action(
    act(async (app, { importFrom, importHost, ...flags }: UpFlags) => {
      await withSupervisor(app, 'M2 cannot be started', async (_, state) => {
        const { storage, rest } = takeStorage(flags, app.world.cwd);
        const importDirectories = importFrom?.map((path) => directory(app.world.cwd, path));
        const options = { ...rest, state, storage, importDirectories, importHosts: importHost };
        const { ended, ceph, ...running } = await startInstallation(options, (line) => app.note(line));
        app.print(running, ({ url, state, adminTokenFile }) =>
          app.card({ url, state, 'admin token': adminTokenFile, ...(ceph && { 'ceph.conf': ceph.conf }) }),
        );
        if (!flags.detach) app.note('Ctrl-C stops it.');
        await ended;
      });
    }),
  );
}
