import { type OperationKind, operationKinds } from '@m2/contracts';
import { isCancellable, type Saga } from './saga.js';

/** Names a saga in the database: its kind and its version. */
export const sagaKey = (kind: OperationKind, version: number): string => `${kind}@${version}`;

/** The sagas that a runner knows. */
export class SagaRegistry {
  private readonly sagas = new Map<string, Saga<never>>();

  /**
   * `current` are those that new operations begin with. `earlier` are kept so that operations in flight can end under the version that they
   * began with. Throws when two have the same kind and version.
   */
  constructor(
    private readonly current: Record<OperationKind, Saga<never>>,
    earlier: readonly Saga<never>[],
  ) {
    for (const saga of [...operationKinds.map((kind) => current[kind]), ...earlier]) {
      const key = sagaKey(saga.kind, saga.version);
      if (this.sagas.has(key)) throw new Error(`There are two sagas ${key}`);
      this.sagas.set(key, saga);
    }
  }

  newest(kind: OperationKind): Saga<never> {
    return this.current[kind];
  }

  find(kind: OperationKind, version: number): Saga<never> | undefined {
    return this.sagas.get(sagaKey(kind, version));
  }

  /** The keys of all sagas. */
  get known(): string[] {
    return [...this.sagas.keys()];
  }

  /** The keys of those whose operations a person may stop. */
  get cancellable(): string[] {
    return [...this.sagas].filter(([, saga]) => isCancellable(saga)).map(([key]) => key);
  }
}
