import { type Call, diskDelete, type Operation } from '@m2/contracts';
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Saga, type SagaState, type Step, stepsOf } from '@m2/saga';
import { anything, stateOfAnything } from '@m2/saga/testing';
import { earlierSagas, sagas } from './index.js';

const state = stateOfAnything as SagaState<never>;
const all = Object.entries(sagas) as [Operation['kind'], Saga<never>][];
const commands = (step: Step<never>) =>
  [step.do?.(state), step.undo?.(state), step.skip?.instead?.(state, { by: 'olga', reason: 'x' })].filter(
    (spec) => spec !== undefined,
  );

describe.each(all)('%s', (kind, saga) => {
  const steps = stepsOf(saga, anything as never);
  it('is of its kind, and its steps send commands', () => {
    expect(saga.kind).toBe(kind);
    expect(steps.flatMap(commands).filter(({ call }) => call.kind !== 'command')).toEqual([]);
  });

  it('can go back wherever a later step may still fail', () => {
    const before = new Set(steps.flatMap(({ after }) => after));
    const oneWay = steps.filter(({ name, undo }) => before.has(name) && !undo).map(({ name }) => name);
    expect(saga.forwardOnly ? [] : oneWay).toEqual([]);
  });
});

describe('a disk that a failed operation made', () => {
  it.each(['provision', 'disk.create'] as const)('by %s is not left in the trash', (kind) => {
    const undo = stepsOf(sagas[kind], anything as never)
      .map((step) => step.undo?.(state))
      .find((spec) => spec?.call === diskDelete);
    expect(undo?.input).toMatchObject({ purge: true });
  });
});

describe('work that a service does on its own time', () => {
  const progress = { phase: 'copy', done: 1, total: 4 };
  const error = { code: 'storage.full', detail: 'The pool is full', about: { pool: 'm2' } };
  const image = (of: object) => ({ state: 'importing', progress: null, error: null, ...of });
  const look = (kind: Operation['kind'], reply: unknown) =>
    stepsOf(sagas[kind], anything as never)[0]!.wait!.look(reply);

  it.each([
    ['image.import', image({ progress }), image({ state: 'ready' }), image({ state: 'failed', error })],
    [
      'image.export',
      { state: 'running', progress, error: null },
      { state: 'done', progress: null, error: null },
      { state: 'failed', progress: null, error },
    ],
    [
      'disk.flatten',
      { flattening: { progress, error: null } },
      { depth: 0, flattening: null },
      { flattening: { progress: null, error } },
    ],
  ] as const)('by %s is followed to its end', (kind, running, done, failed) => {
    expect(look(kind, running)).toEqual({ progress: { done: 1, total: 4, text: 'copy' } });
    expect(look(kind, done)).toEqual({ done });
    expect(look(kind, failed)).toEqual({ failed: error });
  });

  it('by disk.flatten is not done when the disk became another meanwhile', () => {
    expect(look('disk.flatten', { depth: 2, flattening: null })).toMatchObject({ failed: { code: 'disk.not_ready' } });
  });

  it('may fail with a code that nobody here knows, or with none', () => {
    const failed = (of: object | null) => look('image.import', image({ state: 'failed', error: of }));
    expect(failed({ code: 'future.error', detail: 'x' })).toEqual({ failed: { code: 'internal', detail: 'x' } });
    expect(failed(null)).toMatchObject({ failed: { code: 'internal' } });
  });
});

it('every kind of call that an operation makes is one that the gateway may send', () => {
  const calls: Call[] = all.flatMap(([, saga]) =>
    stepsOf(saga, anything as never).flatMap((step) => commands(step).map(({ call }) => call)),
  );
  for (const { subject, callers } of calls) expect([subject, callers.includes('gateway')]).toEqual([subject, true]);
});

describe('the graph of a version', () => {
  // Operations in flight were accepted with these steps. No run of the tests rewrites what is on record, also not one with `-u`.
  const path = new URL('graphs.json', import.meta.url);
  type Graphs = Record<string, Record<string, string>>;
  const ofCode: Graphs = Object.fromEntries(
    [...all.map(([, saga]) => saga), ...earlierSagas].map((saga) => [
      `${saga.kind}@${saga.version}`,
      Object.fromEntries(stepsOf(saga, anything as never).map(({ name, after }) => [name, after.join(', ')])),
    ]),
  );
  let recorded = JSON.parse(readFileSync(path, 'utf8')) as Graphs;
  if (process.env['M2_RECORD_GRAPHS']) {
    // What is there wins. Versions that the code has forgotten stay: their numbers are not used again.
    recorded = { ...ofCode, ...recorded };
    const sorted = Object.fromEntries(Object.entries(recorded).toSorted(([one], [other]) => (one < other ? -1 : 1)));
    writeFileSync(path, `${JSON.stringify(sorted, null, 2)}\n`);
  }

  it.each(Object.keys(ofCode))('%s is the one on record', (key) => {
    expect(
      Object.keys(recorded),
      `${key} is new: put it on record with M2_RECORD_GRAPHS=1 (CONTRIBUTING.md, Changing a saga)`,
    ).toContain(key);
    // With the order of the steps, which `toEqual` does not compare.
    expect(
      Object.entries(ofCode[key]!),
      `${key} changed: raise its version and keep the old one (CONTRIBUTING.md, Changing a saga)`,
    ).toEqual(Object.entries(recorded[key]!));
  });
});

it('says what stays behind wherever a person may leave a step out, and where that is', () => {
  const rules = all.flatMap(([kind, saga]) =>
    stepsOf(saga, anything as never).flatMap(({ name, skip }) => (skip ? [{ step: `${kind} ${name}`, ...skip }] : [])),
  );
  for (const { leaves, unsafe } of rules) {
    expect(leaves).toMatch(/^[A-Z].*\.$/);
    expect(unsafe ?? 'Nothing.').toMatch(/^[A-Z].*\.$/);
  }
  expect(rules.map(({ step }) => step)).toMatchSnapshot();
});

it.each([
  ['deprovision', 'remove-export'],
  ['deprovision', 'detach-disk'],
  ['provision', 'export-disk'],
  ['provision', 'attach-disk'],
] as const)('%s: nobody leaves out %s, which keeps two nodes from one disk', (kind, name) => {
  const step = stepsOf(sagas[kind], anything as never).find((one) => one.name === name);
  expect(step).toMatchObject({ name });
  expect(step).not.toHaveProperty('skip');
});
