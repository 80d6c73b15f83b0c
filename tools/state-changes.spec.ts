import { globSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Changes that are right from any state, and why. */
const fromAnyState = [
  // A node that starts again gets its script again.
  /^UPDATE boot_configs SET state = 'script_served'/,
];

/**
 * The statements of a source that change a state without a word of the state, or the fence, that it may come from. `deleting` is not asked:
 * it is the last one.
 */
function blindChanges(source: string): string[] {
  const statements = source.matchAll(/(?<=[`'])\s*(UPDATE \w+[^`]*?\bSET\b[^`]*?\bstate = [^`]*)(?=`|',)/g);
  return [...statements]
    .map(([, statement]) => statement!.replaceAll(/\s+/g, ' '))
    .filter((statement) => {
      const [set = '', ...where] = statement.split(' WHERE ');
      const isChange = /\bSET\b.*\bstate = (?!'deleting')/.test(set);
      return (
        isChange &&
        !/\b(state|fence|open)\b/.test(where.join(' ')) &&
        !fromAnyState.some((known) => known.test(statement))
      );
    });
}

it('a change of a state says which state it comes from: what finishes late must not bring back what is being deleted', () => {
  const sources = globSync('{services,libs}/*/src/**/*.ts', { cwd: root }).filter(
    (path) => !/\.(spec|it)\.ts$|\/testing\/|migrations\.ts$/.test(path),
  );
  const found = sources.map((path) => [path, ...blindChanges(readFileSync(`${root}/${path}`, 'utf8'))]);
  expect(found.filter(({ length }) => length > 1)).toEqual([]);
});

it('a change that does not say it is found', () => {
  expect(blindChanges("await sql.query(`UPDATE exports SET state = 'ready' WHERE id = $1`, [id])")).toHaveLength(1);
  expect(blindChanges("await sql.query('UPDATE exports SET name = $2, state = $3 WHERE id = $1', [id])")).toHaveLength(
    1,
  );
  expect(blindChanges("`UPDATE exports SET state = 'ready'\n WHERE id = $1 AND state <> 'deleting'`")).toEqual([]);
  expect(blindChanges("`UPDATE exports SET state = 'deleting' WHERE id = $1`")).toEqual([]);
});
