import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { once } from '../events.js';
import { expectCarriedOut, type Request, requests } from '../requests.js';
import { apiCallsOf, tidy } from '../api-calls.js';
import { ended, eventually, type TestInstallation } from '../installation.js';
import {
  cephOf,
  type ObservedCeph,
  expectAsBefore,
  foreignNamespace,
  observeCeph,
  outcomeOf,
  rbd,
} from './observed-ceph.js';

/** Calls that change nothing: a kill there is between the same two changes as a kill at the next call. */
const looks =
  /^(children|handle(Close|Diff|Flush|Open|Read)|info|list|lockOwners|monCommand|namesLike|namespace(Exists|List)|pool(Id|Stats)|stream|trashList|usedBytes|versions)$/;

/** A call to the cluster, and how far it is. */
interface Point {
  operation: string;
  phase: 'asked' | 'moved' | 'answered';
}

/** Requests that take several calls, or as long as there are bytes to copy. */
const long = (installation: () => TestInstallation): Record<string, Request> => {
  const foreign = (name: string) => `${cephOf(installation()).imagePool}/${foreignNamespace}/${name}`;
  return {
    import: requests['image.import'][0]!,
    snapshot: requests['image.import'][1]!,
    copy: {
      ...requests['image.import'][0]!,
      ask: (api, name) => api.importImage(name, { kind: 'image', image: 'golden' }),
    },
    export: {
      ask: (api, name) => api.exportImage('golden', foreign(name)),
      check: async (_, name) => {
        // One complete image without a snapshot, which is no longer M2's.
        expect(await rbd(installation(), 'ls', `${cephOf(installation()).imagePool}/${foreignNamespace}`)).toBe(
          `${name}\n`,
        );
        await rbd(installation(), 'rm', '--no-progress', foreign(name));
      },
      told: once('image.image.exported'),
    },
    flatten: requests['disk.flatten'][0]!,
    rollback: requests['disk.rollback'][0]!,
    fork: requests['disk.create'][1]!,
    'the removal of a disk': requests['disk.delete'][1]!,
  };
};

export function describeKilledInCeph(installation: () => TestInstallation): void {
  const works = long(installation);
  const image = () => installation().killSwitch('image');
  let before: ObservedCeph;
  const points = new Map<string, Point[]>();

  const carryOut = (request: Request, arm: () => void) =>
    expectCarriedOut(installation(), request, arm, () => expectAsBefore(installation(), before));

  /** Runs `work` once for each point, with a kill ordered there. */
  async function killAtEach(
    name: string,
    at: Point[],
    work: (request: Request, arm: () => void) => Promise<void>,
    victim?: string,
  ): Promise<void> {
    const request = works[name]!;
    for (const point of at) {
      // Work after the answer goes on in the background.
      const dead = () => eventually('the kill', async () => image().struck || undefined);
      const check: Request['check'] = (...args) => dead().then(() => request.check(...args));
      const arm = () => image().arm({ channel: 'm2:rbd', at: { ...point }, ...(victim && { victim }) });
      await work({ ...request, check }, arm).catch((cause: Error) => {
        throw new Error(`killed when ${point.operation} was ${point.phase}: ${cause.message}`, { cause });
      });
    }
  }

  /** The request is either carried out or leaves no trace. */
  async function carryOutOrUndo(request: Request, arm: () => void): Promise<void> {
    const [api, name] = [apiCallsOf(installation()), `child-${randomUUID().slice(0, 8)}`];
    await request.before?.(installation(), api, name);
    arm();
    const outcome = outcomeOf(await ended(installation(), await request.ask(api, name)));
    expect(outcome).toMatch(/^(succeeded|storage\.(unavailable|timeout))$/);
    if (outcome === 'succeeded') await request.check(api, name);
    expect(image().struck).toBe(true);
    await tidy(installation());
    await expectAsBefore(installation(), before);
  }

  describe.each(Object.keys(works))('%s', (name) => {
    beforeAll(async () => {
      before = await observeCeph(installation());
    });

    it('changes the cluster in steps', async () => {
      const request = works[name]!;
      let seen: Point[] = [];
      const check: Request['check'] = (...args) => {
        seen = image().recorded() as never;
        return request.check(...args);
      };
      await carryOut({ ...request, check }, () => image().record('m2:rbd'));
      const changes = seen.filter(({ operation }) => !looks.test(operation));
      const distinct = new Map(changes.map(({ operation, phase }) => [`${operation} ${phase}`, { operation, phase }]));
      points.set(name, [...distinct.values()]);
      expect(distinct.size).toBeGreaterThan(1);
    });

    it('is carried out when image-svc is killed at each of them', async () => {
      await expect(killAtEach(name, points.get(name)!, carryOut)).resolves.toBeUndefined();
    });

    it('is carried out or undone when the process that talks to Ceph is killed in the middle of each', async () => {
      const moves = new Set(
        points.get(name)!.flatMap(({ operation, phase }) => (phase === 'moved' ? [operation] : [])),
      );
      const middles = points
        .get(name)!
        .filter(({ operation, phase }) => phase === (moves.has(operation) ? 'moved' : 'asked'));
      const killed = killAtEach(name, middles, carryOutOrUndo, 'child');
      await expect(killed).resolves.toBeUndefined();
    });
  });

  afterAll(() => image().disarm());
}
