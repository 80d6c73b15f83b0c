import { type OperationKind, operationKinds } from '@m2/contracts';
import { describe, expect, it } from 'vitest';
import { SagaRegistry } from './registry.js';
import type { Saga } from './saga.js';
import { step } from './testing/world.js';

const saga = (kind: OperationKind, version: number, more: Partial<Saga<never>> = {}): Saga<never> => ({
  kind,
  version,
  steps: [step('a')] as never,
  forwardOnly: false,
  ...more,
});
const current = (more: Partial<Record<OperationKind, Saga<never>>> = {}) =>
  ({ ...Object.fromEntries(operationKinds.map((kind) => [kind, saga(kind, 2)])), ...more }) as Record<
    OperationKind,
    Saga<never>
  >;

describe('a registry', () => {
  it('begins with the newest version, and finds those that are kept for operations in flight', () => {
    const old = saga('provision', 1);
    const registry = new SagaRegistry(current(), [old]);
    expect(registry.newest('provision').version).toBe(2);
    expect(registry.find('provision', 1)).toBe(old);
    expect(registry.find('provision', 3)).toBeUndefined();
    expect(registry.known).toContain('provision@1');
    expect(registry.known).toHaveLength(operationKinds.length + 1);
  });

  it('is refused with two sagas of one kind and version', () => {
    expect(() => new SagaRegistry(current(), [saga('provision', 2)])).toThrow('two sagas provision@2');
  });

  it('says what may be cancelled: what has a way back', () => {
    const { cancellable } = new SagaRegistry(
      current({
        deprovision: saga('deprovision', 2, { forwardOnly: true }),
        'disk.delete': saga('disk.delete', 2, { steps: [step('a', [], { undo: undefined as never })] as never }),
        'image.import': saga('image.import', 2, { steps: () => [step('a')] as never }),
      }),
      [],
    );
    expect(cancellable).toContain('provision@2');
    expect(cancellable).toContain('image.import@2');
    expect(cancellable).not.toContain('deprovision@2');
    expect(cancellable).not.toContain('disk.delete@2');
  });
});
