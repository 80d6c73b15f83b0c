import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { errorCatalogue } from '@m2/contracts';
import { exitCodes } from '../apps/cli/src/exit-codes.js';
import { killTable } from './docs/kills.js';
import { fileLinks, fillRegions, shellLines } from './docs/markdown.js';
import {
  actions,
  commands,
  commandTable,
  configTable,
  errorTable,
  eventTable,
  labPackageTable,
  portTable,
  routeTable,
  servicePackageTable,
} from './docs/tables.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const pages = globSync(['*.md', 'docs/*.md'], { cwd: root }).toSorted();
const sources = globSync(['{libs,services,apps}/*/src/**/*.ts'], { cwd: root })
  .filter((path) => !/\.(spec|it|fixture)\.ts$|\/(testing|test)\//.test(path))
  .map(read)
  .join('\n');

/** Tables that are generated from the code: `npx vitest run --project unit tools/docs.spec.ts -u` writes them. */
const generated: Record<string, Record<string, () => string>> = {
  'docs/api.md': { routes: routeTable, errors: errorTable, events: eventTable },
  'docs/cli.md': { commands: commandTable },
  'docs/operating.md': { configuration: configTable, ports: portTable, packages: servicePackageTable },
  'docs/lab.md': { packages: labPackageTable },
  'docs/testing.md': { kills: killTable },
};

describe('the pages', () => {
  it.each(Object.keys(generated))('%s says what the code says', async (page) => {
    const regions = Object.entries(generated[page]!).map(([name, make]) => [name, make()]);
    const fresh = fillRegions(read(page), Object.fromEntries(regions) as Record<string, string>);
    await expect(fresh).toMatchFileSnapshot(join(root, page));
  });

  it.each(pages)('%s links to files that are there', (page) => {
    const broken = fileLinks(read(page)).filter((link) => !existsSync(join(root, dirname(page), link)));
    expect(broken).toEqual([]);
  });

  it.each(pages)('%s shows commands that there are', (page) => {
    const known = new Map(commands().map((command) => [command.path, command]));
    for (const line of shellLines(read(page))) {
      // Also behind an assignment or a pipe, and inside of `$(…)`.
      for (const [, rest = ''] of line.matchAll(/(?:^|[|(]\s*|=\S*\s+)(?:\.\/)?m2\s+([^|)]*)/g)) {
        const words = rest.trim().split(/\s+/);
        const named = words.filter((word) => /^[a-z-]+$/.test(word) && !word.startsWith('-'));
        const path = [named.slice(0, 2).join(' '), named[0] ?? ''].find((candidate) => known.has(candidate));
        expect(path, `${page}: ${line}`).toBeDefined();
        const flags = new Set(known.get(path!)!.options.flatMap((option) => option.flags));
        const unknown = words
          .map((word) => word.split('=')[0]!)
          .filter((word) => /^--?[a-z]/.test(word) && !flags.has(word));
        expect(unknown, `${page}: ${line}`).toEqual([]);
      }
    }
  });

  it('show an example of every command', () => {
    const lines = shellLines(read('docs/cli.md')).join('\n');
    const missing = actions().filter(({ path }) => !new RegExp(`(^|\\W)m2 ${path}( |$)`, 'm').test(lines));
    expect(
      missing.map(({ path }) => `m2 ${path}`),
      'give each of these commands an example in docs/cli.md',
    ).toEqual([]);
  });

  it('name every exit code', () => {
    const table = read('docs/cli.md');
    for (const code of Object.values(exitCodes)) expect(table).toMatch(new RegExp(`^\\| ${code} `, 'm'));
  });

  it('name every variable that programs and docker-compose.yml read', () => {
    const inPrograms = [...sources.matchAll(/env(?:\.|\[')(M2_[A-Z_]+)/g)];
    const inCompose = [...read('docker-compose.yml').matchAll(/\$\{(M2_[A-Z_]+)/g)];
    const variables = new Set([...inPrograms, ...inCompose].map(([, name]) => name!));
    expect(variables.size).toBeGreaterThan(8);
    const page = read('docs/operating.md');
    expect([...variables].filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });

  it('name every metric', () => {
    const metrics = [...sources.matchAll(/create(?:Histogram|Counter|Gauge|UpDownCounter)\('(m2_\w+)'/g)].map(
      ([, name]) => name!,
    );
    expect(metrics.length).toBeGreaterThan(2);
    const page = read('docs/operating.md');
    expect(metrics.filter((name) => !page.includes(`\`${name}`))).toEqual([]);
  });
});

it('a remedy names commands and options that there are', () => {
  const known = new Map(commands().map((command) => [command.path, command]));
  for (const [code, { remedy }] of Object.entries(errorCatalogue))
    for (const [, first, second = '', option] of remedy.matchAll(/m2 ([a-z-]+)(?: ([a-z-]+))?(?: (--[a-z-]+))?/g)) {
      const command = known.get(`${first} ${second}`) ?? known.get(first!);
      const options = command?.options.flatMap(({ flags }) => flags) ?? [];
      expect([Boolean(command), option === undefined || options.includes(option)], `${code}: ${remedy}`).toEqual([
        true,
        true,
      ]);
    }
});

describe('what the checks above read with', () => {
  it('fills a region, and misses one that is not there', () => {
    const page = 'a\n<!-- generated: x -->\nold\n<!-- end of x -->\nb\n';
    expect(fillRegions(page, { x: 'new $1' })).toBe('a\n<!-- generated: x -->\n\nnew $1\n\n<!-- end of x -->\nb\n');
    expect(() => fillRegions(page, { y: '' })).toThrow('no region "y"');
  });

  it('finds commands and links', () => {
    expect(shellLines('```sh\nm2 a \\\n  b # c\n# d\n```\n```\nm2 e\n```\n')).toEqual(['m2 a b']);
    expect(fileLinks('[a](b.md#c) [d](https://e) [f](#g) <img alt="h" src="i.svg">')).toEqual(['b.md', 'i.svg']);
  });
});
