import type { AuditEvent } from '@m2/contracts';
import type { Command } from 'commander';
import type { Act, App } from '../app.js';
import { clean } from '../output/style.js';
import { untilInterrupt } from '../watch.js';
import { limitOption, type ListOptions } from './parts.js';

interface EventsOptions extends ListOptions {
  follow?: boolean;
  type?: string;
  after?: string;
}

export function eventCommands(program: Command, act: Act): void {
  program
    .command('events')
    .description('what happened, oldest first; of one project with --project')
    .option('--follow', 'what happens from now on, until Ctrl-C')
    .option('--type <type>', 'only events of this type: image.disk.created, or image.* for all that begin so')
    .option('--after <sequence>', 'only what came after this event; sequence is in what --json prints')
    .addOption(limitOption())
    .action(
      act(async (app, { follow, type, after, limit }: EventsOptions) => {
        const query = { project: app.common.project, type, cursor: after };
        const client = await app.client();
        if (!follow) {
          app.print(await client.list('eventList', { query }, limit), ({ items }) => items.map(line(app)).join(''));
          return;
        }
        await untilInterrupt(app, '', async (signal) => {
          let left = limit ?? Number.POSITIVE_INFINITY;
          for await (const event of client.stream('eventList', { query }, signal)) {
            app.printLine(event, line(app));
            left -= 1;
            if (left <= 0) return;
          }
        });
      }),
    );
}

/** A line and not a table: nobody knows how wide the next event is. */
const line = (app: App) => (event: AuditEvent) => {
  const data = Object.entries(event.data)
    .map(([key, value]) => [key, codeOf(value) ?? value] as const)
    .filter(([, value]) => value !== null && typeof value !== 'object')
    .map(([key, value]) => `${key}=${String(value)}`);
  return `${app.style.dim(clean(event.time))}  ${clean([event.type, ...data].join('  '))}\n`;
};

/** Of an error the code is enough for a line; the rest of it is in what --json prints. */
const codeOf = (value: unknown) =>
  typeof value === 'object' && value !== null && 'code' in value ? value.code : undefined;
