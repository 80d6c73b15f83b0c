import { type Operation, operationKinds, operationStates, type WayOut } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type DestroyOptions, mayDestroy } from '../destroy.js';
import { operationError } from '../errors.js';
import { formatAge, formatDuration } from '../output/units.js';
import { formatProgress } from '../output/steps.js';
import { concluded, follow, watchOperation } from '../watch.js';
import { destructive, group, limitOption, type ListOptions, noWaitOption, type WaitOptions } from './parts.js';

interface OperationListOptions extends ListOptions {
  kind?: Operation['kind'];
  in?: Operation['state'];
}

export function operationCommands(program: Command, act: Act): void {
  const operation = group(program, 'operation', 'operations: what is being done, and what was');

  operation
    .command('list')
    .description('operations, newest first; of one project with --project')
    .addOption(new Option('--kind <kind>', 'only these').choices(operationKinds))
    .addOption(new Option('--in <state>', 'only those in this state').choices(operationStates))
    .addOption(limitOption())
    .action(
      act(async (app, { kind, in: state, limit }: OperationListOptions) => {
        const query = { project: app.common.project, kind, state };
        app.print(await (await app.client()).list('operationList', { query }, limit), ({ items }) =>
          app.table(
            ['ID', 'KIND', 'STATE', 'STEPS', 'TOOK', 'STARTED', 'BY'],
            items.map((one) => [
              one.id,
              one.kind,
              one.state,
              done(one),
              took(one),
              formatAge(one.createdAt),
              one.createdBy,
            ]),
          ),
        );
      }),
    );

  operation
    .command('show <operation>')
    .description('one operation with its steps')
    .option('--watch', 'live, until it ends')
    .action(
      act(async (app, { watch }: { watch?: boolean }, id: string) => {
        if (!watch) return app.print(await app.call('operationShow', { params: { id } }), card(app));
        const ended = await watchOperation(app, id, app.json ? (one) => app.printLine(one, String) : undefined);
        if (!app.json) app.print(ended, card(app));
        concluded(app, ended);
      }),
    );

  operation
    .command('cancel <operation>')
    .description('stop an operation and undo what it did')
    .addOption(noWaitOption())
    .action(
      act(async (app, { wait }: WaitOptions, id: string) => {
        const asked = await app.call('operationCancel', { params: { id } });
        if (!wait) return app.print(asked, ({ id }) => `${id}\n`);
        const ended = await watchOperation(app, id);
        if (app.json) app.print(ended, String);
        if (ended.state !== 'cancelled') throw notCancelled(ended);
        app.note(`${ended.kind}: cancelled, and what it did is undone`);
      }),
    );

  operation
    .command('resume <operation>')
    .description('let an operation that needs attention go on, when its cause is mended')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: WaitOptions, id: string) => {
        await follow(app, await app.call('operationResume', { params: { id } }), options);
      }),
    );

  waysOut(operation, act);
}

interface DecisionOptions extends DestroyOptions, WaitOptions {
  reason: string;
}

/** What stays behind, and what may do harm, as `m2` shows it before it asks. */
const consequences = ({ steps }: WayOut) =>
  steps.map(({ leaves, unsafe }) => `${leaves}${unsafe === null ? '' : ` UNSAFE: ${unsafe}`}`).join(' ');

/** `operation skip-step`, `abandon`: for what can neither go on nor back. */
function waysOut(operation: Command, act: Act): void {
  destructive(operation.command('skip-step <operation> <step>'))
    .description('leave out a stuck step of an operation, and let it go on')
    .requiredOption('--reason <reason>', 'why; it goes on record')
    .addOption(noWaitOption())
    .action(
      act(async (app, options: DecisionOptions, id: string, step: string) => {
        const look = async () => {
          const plan = await app.call('operationSkipPlan', { params: { id }, query: { step } });
          const what = `${step} of operation ${id}`;
          return { verb: 'leave out', what, consequences: consequences(plan), object: plan, usedBy: [] };
        };
        if (!(await mayDestroy(app, options, look))) return;
        const { reason } = options;
        await follow(app, await app.call('operationSkipStep', { params: { id }, body: { step, reason } }), options);
      }),
    );

  destructive(operation.command('abandon <operation>'))
    .description('end a stuck operation as it is: nothing more is done or undone')
    .requiredOption('--reason <reason>', 'why; it goes on record')
    .action(
      act(async (app, options: DecisionOptions, id: string) => {
        const look = async () => {
          const plan = await app.call('operationAbandonPlan', { params: { id } });
          return {
            verb: 'abandon',
            what: `operation ${id}`,
            consequences: consequences(plan),
            object: plan,
            usedBy: [],
          };
        };
        if (!(await mayDestroy(app, options, look))) return;
        const { reason } = options;
        app.print(await app.call('operationAbandon', { params: { id }, body: { reason } }), card(app));
      }),
    );
}

/** The cancellation came too late, or its undo is stuck. */
function notCancelled(operation: Operation) {
  return operation.state === 'succeeded'
    ? operationError({ ...operation, error: { code: 'operation.not_cancellable', detail: 'it had succeeded before' } })
    : operationError(operation);
}

const done = ({ steps }: Operation) =>
  `${steps.filter(({ state }) => state === 'done' || state === 'skipped').length}/${steps.length}`;

const took = ({ startedAt, endedAt }: Pick<Operation, 'startedAt' | 'endedAt'>) =>
  startedAt === null || endedAt === null ? null : formatDuration(Date.parse(endedAt) - Date.parse(startedAt));

const card = (app: App) => (operation: Operation) => {
  const { steps, error, attention, kind } = operation;
  const fields = app.card({
    id: operation.id,
    kind,
    state:
      operation.cancelRequested && operation.endedAt === null ? `${operation.state}, to be cancelled` : operation.state,
    about: Object.entries(operation.about)
      .map(([what, id]) => `${what} ${id}`)
      .join(', '),
    by: operation.createdBy,
    started: operation.startedAt,
    took: took(operation),
    ...(error && { error: `${error.detail} (${error.code})` }),
    ...(attention && { attention }),
  });
  const rows = steps.map((step) => {
    const { name, state, attempts, progress, error, skipped } = step;
    if (skipped) return [name, state, took(step), attempts, `left out by ${skipped.by}: ${skipped.reason}`];
    return [
      name,
      state,
      took(step),
      attempts,
      error ? `${error.detail} (${error.code})` : progress && formatProgress(progress, kind),
    ];
  });
  return `${fields}\n${app.table(['STEP', 'STATE', 'TOOK', 'ATTEMPTS', 'SAYS'], rows)}`;
};
