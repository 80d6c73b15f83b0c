import { type Call, diskDelete, type Operation } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import type { Saga, SagaState, Step } from '@m2/saga';
import { sagas } from './index.js';

/** Says yes to everything that it is asked for, so that every step can say what it would send. */
const anything: unknown = new Proxy(() => anything, { get: (_, key) => (key === 'then' ? undefined : anything) });
const state = { operation: '', project: '', input: anything, reply: () => anything } as unknown as SagaState<never>;
const all = Object.entries(sagas) as [Operation['kind'], Saga<never>][];
const commands = (step: Step<never>) => [step.do?.(state), step.undo?.(state)].filter((spec) => spec !== undefined);

describe.each(all)('%s', (kind, saga) => {
  it('is of its kind, and its steps send commands', () => {
    expect(saga.kind).toBe(kind);
    expect(saga.steps.flatMap(commands).filter(({ call }) => call.kind !== 'command')).toEqual([]);
  });

  it('can go back wherever a later step may still fail', () => {
    const before = new Set(saga.steps.flatMap(({ after }) => after));
    const oneWay = saga.steps.filter(({ name, undo }) => before.has(name) && !undo).map(({ name }) => name);
    expect(saga.forwardOnly ? [] : oneWay).toEqual([]);
  });
});

describe('a disk that a failed operation made', () => {
  it.each(['provision', 'disk.create'] as const)('by %s is not left in the trash', (kind) => {
    const undo = sagas[kind].steps.map((step) => step.undo?.(state)).find((spec) => spec?.call === diskDelete);
    expect(undo?.input).toMatchObject({ purge: true });
  });
});

describe('work that a service does on its own time', () => {
  const progress = { phase: 'copy', done: 1, total: 4 };
  const error = { code: 'storage.full', detail: 'The pool is full', about: { pool: 'm2' } };
  const image = (of: object) => ({ state: 'importing', progress: null, error: null, ...of });
  const look = (kind: Operation['kind'], reply: unknown) => sagas[kind].steps[0]!.wait!.look(reply);

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
  const calls: Call[] = all.flatMap(([, saga]) => saga.steps.flatMap((step) => commands(step).map(({ call }) => call)));
  for (const { subject, callers } of calls) expect([subject, callers.includes('gateway')]).toEqual([subject, true]);
});
