import type { Finding } from '@m2/contracts';
import { type Command, Option } from 'commander';
import type { Act, App } from '../app.js';
import { type Answer, M2Client } from '../client.js';
import { exitCodes } from '../exit-codes.js';
import { clean } from '../output/style.js';
import { Exit } from '../world.js';

/** A storage with many volumes is not looked through in a moment. */
const deadline = 120_000;

/** `m2 fsck`: does the storage have what is on record, and nothing else? */
export function fsckCommand(program: Command, act: Act): void {
  program
    .command('fsck')
    .helpGroup('Commands:')
    .description('compare the storage with what is on record, and explain each difference; for operators')
    .addOption(new Option('--repair', 'repair those whose grace time is over').conflicts('dryRun'))
    .addOption(new Option('--dry-run', 'say what a repair would do, and do nothing (the same as no option)'))
    .action(
      act(async (app, { repair }: { repair?: boolean }) => {
        const client = new M2Client({ ...(await app.connection()), deadline });
        const left = repair ? await mend(app, client) : await check(app, client);
        if (left.length > 0) throw new Exit(exitCodes.failed);
      }),
    );
}

async function check(app: App, client: M2Client): Promise<Finding[]> {
  const found = await client.list('storageCheck');
  found.items.sort((a, b) => (title(a) < title(b) ? -1 : 1));
  app.print(found, ({ items }) => (items.length > 0 ? items.map(explain).join('') : 'Nothing is wrong.\n'));
  if (found.items.some(({ repair }) => repair !== null)) app.note('Repair what can be: m2 fsck --repair');
  return found.items;
}

async function mend(app: App, client: M2Client): Promise<Finding[]> {
  const result = await repairAll(client);
  app.print(result, ({ repaired, left }) => {
    const done = repaired.map((one) => `repaired: ${title(one)}\n`).join('');
    return done + left.map(explain).join('') || 'Nothing is wrong.\n';
  });
  return result.left;
}

/** Some are repaired with each call, until none is. */
async function repairAll(client: M2Client): Promise<Pick<Answer<'storageRepair'>, 'repaired' | 'left'>> {
  const repaired: Finding[] = [];
  for (;;) {
    const round = await client.call('storageRepair');
    repaired.push(...round.repaired);
    if (!round.more) return { repaired, left: round.left };
    if (round.repaired.length === 0) return { repaired, left: (await client.list('storageCheck')).items };
  }
}

const title = ({ kind, volume, tag }: Finding) =>
  clean(`${kind.replaceAll('_', ' ')}: ${volume}${tag === null ? '' : `@${tag}`}`);

function explain(finding: Finding): string {
  const { explanation, repair, repairableAt, project, firstSeenAt } = finding;
  // oxlint-disable-next-line no-restricted-properties -- compared with a time of the API
  const isEarly = repairableAt !== null && Date.parse(repairableAt) > Date.now();
  const lines = [
    title(finding),
    explanation,
    ...(project === null ? [] : [`project: ${project}`]),
    `seen since: ${firstSeenAt}`,
    `repair: ${repair ?? 'a person has to decide'}${repair !== null && isEarly ? `, not before ${repairableAt}` : ''}`,
  ];
  return `${lines.map((line, index) => `${index > 0 ? '  ' : ''}${clean(line)}`).join('\n')}\n`;
}
