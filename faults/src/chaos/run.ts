import { M2Client } from '@m2/cli';
import type { Provision } from '@m2/contracts';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { tidyDisks, tidyImages } from '../api-calls.js';
import { askDeprovision, startTestInstallation, succeeded, type TestInstallation } from '../installation.js';
import { keepLogs, reports } from '../kept-logs.js';
import { expectNothing } from '../observed-state.js';
import { Contents } from './contents.js';
import { explained } from './explained.js';
import { Faults } from './faults.js';
import { brokenInvariants, untilAllEnded } from './invariants.js';
import { names, nodeCount, planOf, services, told, twice } from './plan.js';
import { ask } from './requests.js';
import { makeTenant, type Tenant } from './tenants.js';
import { mayMount, SmallDisk } from '../small-disk.js';

export interface ChaosOptions {
  seed: number;
  minutes: number;
}

/** More than an hour's run needs, so that it is full only when that is the fault. */
const stateMegabytes = 3_000;
/** Longer than any step's deadline, and than what waits for a person takes to be tried again. */
const quietMs = 360_000;

export interface ChaosResult {
  /** How requests were answered, and how often. */
  answers: Record<string, number>;
  operations: Record<string, number>;
  faults: number;
  /** Writes of nodes that were looked for at the end. */
  stamps: number;
  /** What the parts of the run took. */
  seconds: Record<string, number>;
}

/** Reached now and then: there are as many disks as names, and those in the trash. */
const limits = { bytes: 3 * 2 ** 30, disks: 8, images: 4 };

/** Two projects with limits. One has the golden image, and the other may use it. */
async function makeTenants(installation: TestInstallation): Promise<Tenant[]> {
  const { client, stage } = installation;
  const other = await client.call('projectCreate', { body: { name: 'other' } });
  const { id: home } = await client.call('projectShow', { params: { project: stage.project } });
  const shared = { params: { project: home, image: 'golden' }, body: { sharedWith: [other.id] } };
  await succeeded(installation, await client.call('imageUpdate', shared));
  for (const project of [home, other.id]) await client.call('quotaSet', { params: { project }, body: limits });
  return Promise.all([home, other.id].map((project) => makeTenant(installation, project)));
}

/** A fork of every tag, whose bytes can then be compared. */
async function forkTags(installation: TestInstallation, project: string): Promise<void> {
  const { client } = installation;
  await client.call('quotaSet', { params: { project }, body: { bytes: null, disks: null, images: null } });
  for (const { id: disk } of (await client.list('diskList', { params: { project } })).items)
    for (const { id, name, automatic } of (await client.list('diskTags', { params: { project, disk } })).items) {
      if (automatic) continue;
      const fork = { params: { project }, body: { name: `of-${id}`, disk, tag: name } };
      await succeeded(installation, await client.call('diskCreate', fork));
    }
}

const within = (installation: TestInstallation, project: string): TestInstallation => ({
  ...installation,
  stage: { ...installation.stage, project },
});

const took = (from: number, to: number) => Math.round((to - from) / 1_000);

/**
 * Does what the seed's plan says to an installation of its own with two gateways, then mends all that was broken, and looks whether everything
 * is as it must be. Throws an error with the plan so far, and how to run it again.
 */
export async function chaos({ seed, minutes }: ChaosOptions): Promise<ChaosResult> {
  const log: string[] = [`seed ${seed}, ${minutes} minutes`];
  let installation: TestInstallation | undefined;
  let contents: Contents | undefined;
  let smallDisk: SmallDisk | undefined;
  try {
    if (mayMount()) smallDisk = new SmallDisk(stateMegabytes);
    contents = await Contents.start(Array.from({ length: names.image }, (_, place) => `image-${place}`));
    installation = await startTestInstallation({
      nodes: nodeCount,
      mortal: [...services],
      twice: [...twice],
      importHosts: ['127.0.0.1'],
      state: smallDisk?.path,
    });
    return await play({ seed, minutes }, installation, { contents, smallDisk }, log);
  } catch (error) {
    const kept = await keep(seed, installation, [...log, String((error as Error).stack)]);
    const last = log.slice(-60).join('\n');
    throw new Error(
      `seed ${seed}: ${(error as Error).message}\n\nThe plan so far (all of it, and the logs: ${kept}):\n${last}\n\n` +
        `Again: m2 test chaos --seed ${seed} --minutes ${Math.ceil(minutes)}`,
      { cause: error },
    );
  } finally {
    await contents?.close();
    smallDisk?.makeRoom();
    await installation?.close();
    smallDisk?.remove();
  }
}

async function play(
  { seed, minutes }: ChaosOptions,
  installation: TestInstallation,
  { contents, smallDisk }: { contents: Contents; smallDisk: SmallDisk | undefined },
  log: string[],
): Promise<ChaosResult> {
  const faults = new Faults(installation, smallDisk);
  const token = installation.adminToken;
  const doors = [installation.stage.running.url, installation.second('gateway').origin].map(
    (url) => new M2Client({ url, token, attempts: 8 }),
  );
  const tenants = await makeTenants(installation);
  const projects = tenants.map(({ project }) => project);
  const scene = { doors, projects, contents };
  await contents.write(installation);
  const answers: Record<string, number> = {};
  const accepted: string[] = [];
  const asked: Promise<void>[] = [];
  let broken = 0;
  const began = performance.now();
  for (const action of planOf(seed, minutes)) {
    await pause(Math.max(0, action.atMs - (performance.now() - began)));
    const at = log.push(told(action)) - 1;
    if ('fault' in action) {
      broken += 1;
      log[at] += ` -> ${await faults.make(action)}`;
    } else
      asked.push(
        ask(action, scene).then(({ operation, refused, unanswered }) => {
          if (operation) accepted.push(operation);
          const answer = operation ? 'accepted' : (refused ?? unanswered?.split('\n')[0] ?? 'done');
          answers[answer] = (answers[answer] ?? 0) + 1;
          log[at] += ` -> ${operation ?? answer}`;
        }),
      );
  }
  const planned = performance.now();
  await Promise.all(asked);
  await faults.end();
  await contents.rest();
  log.push(`all is mended, after ${accepted.length} operations and ${broken} faults`);
  const open = await untilAllEnded(installation, quietMs);
  if (open.length > 0)
    throw new Error(
      `does not end: ${open.map(({ id, kind, state, attention }) => `${kind} ${id} ${state} ${attention}`).join('; ')}`,
    );
  await faults.killTargets();
  const quiet = performance.now();
  await settled(installation, accepted, faults, tenants);
  const ready = performance.now();
  const provisions: Provision[] = [];
  for (const project of projects)
    provisions.push(...(await installation.client.list('provisionList', { params: { project } })).items);
  // Whatever died, each node can use its disk; and what it writes from now on is not in the tag.
  for (const { project, disk } of provisions) {
    const tag = { params: { project, disk }, body: { name: 'last' } };
    await succeeded(installation, await installation.client.call('diskTag', tag));
  }
  for (const { node } of provisions)
    await contents.stamp(
      installation,
      installation.stage.nodes.findIndex(({ id }) => id === node),
      20_000,
    );
  // What is made can also be taken back.
  for (const { id, project } of provisions)
    await succeeded(installation, await askDeprovision(within(installation, project), id, 'keep'));
  for (const project of projects) await forkTags(installation, project);
  const wrong = await contents.wrong(installation, projects);
  if (wrong.length > 0) throw await failure(installation, 'has not the bytes that it must have', wrong);
  // An image that was moved has disks in both projects.
  for (const project of projects) await tidyDisks(within(installation, project));
  for (const project of projects) await tidyImages(within(installation, project));
  await expectNothing(installation, [], faults.doubtful);
  const { items: operations } = await installation.client.list('operationList');
  return {
    answers,
    operations: Object.fromEntries(
      Object.entries(Object.groupBy(operations, ({ kind, state }) => `${kind} ${state}`)).map(([key, list]) => [
        key,
        list!.length,
      ]),
    ),
    faults: broken,
    stamps: contents.kept,
    seconds: {
      plan: minutes * 60,
      quiet: took(planned, quiet),
      settled: took(quiet, ready),
      rest: took(ready, performance.now()),
    },
  };
}

/** Reconciling takes its time after a fault; what is wrong for longer than that is wrong. */
async function settled(
  installation: TestInstallation,
  accepted: string[],
  faults: Faults,
  tenants: Tenant[],
): Promise<void> {
  let wrong: string[] = [];
  for (const until = performance.now() + settleMs; ; await pause(1_000)) {
    wrong = await brokenInvariants(installation, accepted, faults.doubtful, tenants);
    if (wrong.length === 0) return;
    if (performance.now() > until) throw await failure(installation, 'is not as it must be', wrong);
  }
}
const settleMs = 90_000;

async function failure(installation: TestInstallation, what: string, wrong: string[]): Promise<Error> {
  const records = await explained(installation, wrong).catch((error: unknown) => [String(error)]);
  return new Error(`${what}:\n${wrong.join('\n')}\n\n${records.join('\n')}`);
}

/** The log of the run and those of the services, for whoever looks for the reason. */
async function keep(seed: number, installation: TestInstallation | undefined, log: string[]): Promise<string> {
  const directory = join(reports, `chaos-${seed}`);
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'plan.txt'), `${log.join('\n')}\n`);
  if (installation) await keepLogs(installation.stage, directory);
  return directory;
}
