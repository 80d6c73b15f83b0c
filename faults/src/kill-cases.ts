import type { Call, OperationKind, ServiceName } from '@m2/contracts';
import { type Saga, type Step, stepsOf } from '@m2/saga';
import { sagas } from '../../services/api-gateway/src/sagas/index.js';
import { commandOf } from './commands.js';
import { refusalCases, requestCases } from './requests.js';
import { deprovisionSteps, provisionSteps, deprovisionRequestFor, provisionRequestFor } from './provision-requests.js';

/**
 * Where processes are killed. Two kills that leave the same state behind, for the same code to go on from, are one: it is made once, and
 * the others are listed in `removed`, with the one that stands for them. docs/testing.md shows that list.
 */
export interface RemovedKill {
  victim: 'gateway' | ServiceName;
  phase: string;
  /** The step or the command at which it is not killed in that phase. */
  at: string;
  standIn: string;
  why: string;
}
export const removed: RemovedKill[] = [];
type StandIn = Pick<RemovedKill, 'standIn' | 'why'>;

type Direction = 'do' | 'undo';
/** A crash before the call, after the call and before its outcome is on record, and after that. */
const stepPhases = ['intent', 'answered', 'committed'] as const;
type StepPhase = (typeof stepPhases)[number];

const sagaOf = (kind: OperationKind) => sagas[kind] as Saga<unknown>;
const nameOf = (kind: OperationKind, step: string, direction: Direction) =>
  `${kind}: ${direction === 'undo' ? 'undo of ' : ''}${step}`;
const point = (phase: StepPhase, ...step: Parameters<typeof nameOf>) => `\`${phase}\` of ${nameOf(...step)}`;

/** For each direction, the end that stands for all that have no `settle`. */
const ends = new Map<Direction, string>();

/** When every step is on record, what is left to do depends on the kind by its `settle` only. */
function standInForEnd(kind: OperationKind, step: string, direction: Direction): StandIn | undefined {
  if (sagaOf(kind).settle) return undefined;
  const standIn = ends.get(direction);
  if (standIn)
    return {
      standIn,
      why: 'All steps are on record. What is left is to end the operation, which is the same for all kinds without a `settle`.',
    };
  ends.set(direction, point('committed', kind, step, direction));
  return undefined;
}

/** Forward: the outcome of a step is written together with the intent of each step that waited for it alone. */
function standInForDone(kind: OperationKind, step: Step<unknown>, input: unknown): StandIn | undefined {
  const taken = stepsOf(sagaOf(kind), input).filter((each) => each.when?.(input) ?? true);
  const names = new Set(taken.map(({ name }) => name));
  const waitsFor = (each: Step<unknown>) => each.after.filter((name) => names.has(name));
  const next = taken.find((each) => waitsFor(each).join() === step.name);
  if (next)
    return {
      standIn: point('intent', kind, next.name, 'do'),
      why: 'One write to the journal holds both, and nothing is sent in between.',
    };
  return taken.length === 1 ? standInForEnd(kind, step.name, 'do') : undefined;
}

/** Steps that are undone together, in the order in which that happens (`backward` in execution.ts). */
function roundsOf(steps: Step<unknown>[]): Step<unknown>[][] {
  const dependsOn = (step: Step<unknown>, name: string): boolean =>
    step.after.some(
      (before) =>
        before === name ||
        dependsOn(
          steps.find((each) => each.name === before)!,
          name,
        ),
    );
  const rounds: Step<unknown>[][] = [];
  for (let open = steps.filter(({ undo }) => undo); open.length > 0;) {
    const last = open.filter((step) => !open.some((other) => dependsOn(other, step.name)));
    rounds.push(last);
    open = open.filter((step) => !last.includes(step));
  }
  return rounds;
}

/** Back: what is undone together is on record together; after a step that is undone alone, the next one follows. */
function standInForUndone(kind: OperationKind, step: Step<unknown>, input: unknown): StandIn | undefined {
  const rounds = roundsOf(stepsOf(sagaOf(kind), input));
  const at = rounds.findIndex((round) => round.includes(step));
  const [first, ...others] = rounds[at]!;
  if (step !== first)
    return {
      standIn: point('committed', kind, first!.name, 'undo'),
      why: 'Both are undone together, and one write to the journal holds both.',
    };
  const next = rounds[at + 1]?.[0];
  if (next && others.length === 0)
    return {
      standIn: point('intent', kind, next.name, 'undo'),
      why: 'The record of the next step says `done` in one and `undoing` in the other, and both are undone (`isOpen` in execution.ts).',
    };
  return next ? undefined : standInForEnd(kind, step.name, 'undo');
}

/** The phases at which the gateway is killed for a step. */
function stepPhasesOf(
  kind: OperationKind,
  step: string,
  direction: Direction,
  standIn: StandIn | undefined,
): StepPhase[] {
  if (!standIn) return [...stepPhases];
  removed.push({ victim: 'gateway', phase: 'committed', at: nameOf(kind, step, direction), ...standIn });
  return stepPhases.filter((phase) => phase !== 'committed');
}

/** Where the gateway is killed, by what it is doing. */
export const gatewayCases = {
  provision: provisionSteps.flatMap((step) => {
    const standIn = standInForDone('provision', step, provisionRequestFor(step).input);
    return stepPhasesOf('provision', step.name, 'do', standIn).map((phase) => ({ step, phase, name: step.name }));
  }),
  deprovision: deprovisionSteps.flatMap((step) => {
    const standIn = standInForDone('deprovision', step, deprovisionRequestFor(step).input);
    return stepPhasesOf('deprovision', step.name, 'do', standIn).map((phase) => ({ step, phase, name: step.name }));
  }),
  undo: provisionSteps
    .filter(({ undo }) => undo)
    .flatMap((step) => {
      const standIn = standInForUndone('provision', step, provisionRequestFor(step).input);
      return stepPhasesOf('provision', step.name, 'undo', standIn).map((phase) => ({ phase, name: step.name }));
    }),
  requests: requestCases.flatMap((each) => {
    const standIn = standInForDone(each.kind, each.step, {});
    return stepPhasesOf(each.kind, each.name, 'do', standIn).map((phase) => ({ ...each, phase }));
  }),
  refusals: refusalCases.flatMap((each) => {
    // A step that failed is not the end of its operation: the way back begins there.
    const standIn = each.direction === 'undo' ? standInForUndone(each.kind, each.step, {}) : undefined;
    return stepPhasesOf(each.kind, each.name, each.direction, standIn).map((phase) => ({ ...each, phase }));
  }),
  failure: [...stepPhases],
  /** Right after the gateway has committed that a whole operation is there, goes back, or has ended. */
  commits: [
    { of: 'a provision', phase: 'accepted' },
    { of: 'a provision', phase: 'ended' },
    { of: 'a deprovision', phase: 'accepted' },
    { of: 'a deprovision', phase: 'ended' },
    { of: 'an operation without a `settle`', phase: 'accepted' },
    { of: 'an operation without a `settle`', phase: 'ended' },
    { of: 'a provision that is cancelled', phase: 'turned-back' },
    { of: 'a provision that is cancelled', phase: 'ended' },
    { of: 'a provision that fails', phase: 'turned-back' },
    { of: 'a provision that fails', phase: 'ended' },
  ] as const,
};

/** A command has come; it is done and about to go on record; it is on record; its handler has returned, and nobody has the answer. */
const commandPhases = ['begin', 'acted', 'committed', 'end'] as const;

const firstCommands = new Map<ServiceName, string>();
const seen = new Set<string>();

/** The phases at which a service is killed for a command: `begin` and `end` once for a service, `committed` once for a command. */
function commandPhasesOf({ service, subject }: Call) {
  const first = firstCommands.get(service);
  const isNew = !seen.has(subject);
  seen.add(subject);
  if (!first) firstCommands.set(service, subject);
  if (first && isNew) {
    const at = shortOf(subject);
    removed.push({
      victim: service,
      phase: 'begin',
      at,
      standIn: `\`begin\` of ${shortOf(first)}`,
      why: 'No handler has done anything. What the process holds is the lease on a step, and that is the same for all commands.',
    });
    removed.push({
      victim: service,
      phase: 'end',
      at,
      standIn: `\`end\` of ${shortOf(first)}; for what the handler does after its commit, \`committed\` of the same command`,
      why: 'The answer is on record. Whoever asks again has it from there, whatever the command is.',
    });
  }
  return commandPhases.filter((phase) => {
    if (phase === 'begin' || phase === 'end') return !first;
    return phase === 'acted' || isNew;
  });
}
const shortOf = (subject: string) => subject.replace(/^m2\.cmd\./, '');

/** Where the services are killed at the commands of these steps. */
const commandCases = (steps: Step<unknown>[], direction: Direction) =>
  steps.flatMap((step) => {
    const call = commandOf(step[direction]);
    if (!call) return [];
    const { service, subject } = call;
    return commandPhasesOf(call).map((phase) => ({ step, service, subject, phase, name: step.name }));
  });

export const serviceCases = {
  provision: commandCases(provisionSteps, 'do'),
  deprovision: commandCases(deprovisionSteps, 'do'),
  undo: commandCases(provisionSteps, 'undo'),
  requests: requestCases.flatMap((each) => commandCases([each.step], 'do').map((command) => ({ ...command, ...each }))),
  refusals: refusalCases.flatMap((each) =>
    commandCases([each.step], each.direction).map((command) => ({ ...command, ...each })),
  ),
};
