import { describe, expect, it } from 'vitest';
import { select } from './changed.js';
import { type Tier, tiers } from './test-report.js';

const runs = (...changed: string[]) => tiers.map((tier: Tier) => select(changed, tier).run);

describe('what a change can touch', () => {
  it.each([
    ['nothing', [], ['nothing', 'nothing', 'nothing', 'nothing']],
    ['a service', ['services/boot-svc/src/service.ts'], ['related', 'related', 'all', 'all']],
    ['a test of a service', ['services/boot-svc/src/a.spec.ts'], ['related', 'related', 'nothing', 'nothing']],
    ['a page', ['docs/testing.md'], ['related', 'related', 'nothing', 'nothing']],
    ['an end-to-end test', ['e2e/src/a.e2e.ts'], ['related', 'related', 'all', 'nothing']],
    ['a kill point', ['faults/src/kill-point.mjs'], ['all', 'all', 'nothing', 'all']],
    ['a program of the lab', ['lab/src/node/power.sh'], ['all', 'all', 'all', 'all']],
    ['a dependency', ['docs/testing.md', 'package-lock.json'], ['all', 'all', 'all', 'all']],
    ['the servers of the tests', ['libs/service-kit/src/testing/nats.ts'], ['all', 'all', 'all', 'all']],
  ])('%s', (_what, changed, expected) => expect(runs(...changed)).toEqual(expected));

  it('finds the tests that read a file and do not import it', () => {
    expect(select(['docs/cli.md'], 'unit')).toEqual({ run: 'related', files: ['docs/cli.md', 'tools/docs.spec.ts'] });
    expect(select(['deploy/nats/a.conf'], 'unit')).toMatchObject({
      files: expect.arrayContaining(['deploy/nats.spec.ts']) as string[],
    });
  });

  it('says why', () => {
    expect(select(['faults/src/a.ts'], 'e2e')).toEqual({ run: 'nothing', why: 'nothing changed of what it starts' });
    expect(select(['lab/src/lab.ts'], 'faults')).toEqual({ run: 'all', why: 'lab/src/lab.ts changed' });
  });
});
