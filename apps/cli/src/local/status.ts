import type { ChildStatus, Status } from '@m2/supervisor';
import type { Command } from 'commander';
import type { Act } from '../app.js';
import { exitCodes } from '../exit-codes.js';
import { clean } from '../output/style.js';
import { formatAge } from '../output/units.js';
import { type CephDaemon, cephOf } from '../stage/installation.js';
import { Exit } from '../world.js';
import { withSupervisor } from './installation.js';

const isWell = ({ phase, children }: Status) =>
  phase === 'ready' && children.every(({ state, alarms }) => state === 'ready' && alarms.length === 0);

/** What a person has to know, in a line for each. */
const remarks = (children: ChildStatus[]): string[] =>
  children.flatMap(({ name, waitsFor, alarms }) => [
    ...(waitsFor ? [`${name} waits for ${waitsFor}`] : []),
    ...alarms.map((alarm) => `${name}: ${alarm}`),
  ]);

/** The lab's Ceph has no supervisor: what has ended stays so until the next `m2 up`. */
const partOf = ({ name, pid }: CephDaemon): ChildStatus => {
  const state = pid === undefined ? 'stopped' : 'ready';
  return {
    name: `ceph-${name}`,
    state,
    pid: pid ?? null,
    restarts: 0,
    since: null,
    port: null,
    waitsFor: null,
    alarms: [],
  };
};

/** `m2 status`: exits 0 only when every part is ready, and has nothing to tell. */
export function statusCommand(program: Command, act: Act): void {
  program
    .command('status')
    .description('what runs of M2 on this machine')
    .action(
      act(async (app) => {
        const { found, ceph, state } = await withSupervisor(app, 'M2 cannot be asked', async ({ status }, state) => ({
          found: await status({ state }),
          ceph: (await cephOf(state)).map(partOf),
          state,
        }));
        if (!found) {
          const left = ceph.filter(({ pid }) => pid !== null);
          if (app.json) app.print({ phase: 'stopped', children: left }, String);
          const names = left.map(({ name }) => name).join(', ');
          app.note(
            names
              ? `On ${state} only ${names} run: m2 up starts the rest, m2 down ends them.`
              : `Nothing runs on ${state}.`,
          );
          throw new Exit(exitCodes.unreachable);
        }
        const all = { ...found, children: [...found.children, ...ceph] };
        app.print(all, ({ children }) =>
          app.table(
            ['PART', 'STATE', 'PID', 'PORT', 'RESTARTS', 'SINCE'],
            children.map(({ name, state, pid, port, restarts, since }) => {
              return [name, state, pid, port, restarts, since && formatAge(since)];
            }),
          ),
        );
        if (!app.json) for (const remark of remarks(all.children)) app.note(clean(remark));
        if (!isWell(all)) throw new Exit(exitCodes.failed);
      }),
    );
}
