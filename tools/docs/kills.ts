import { gatewayCases, removed, type RemovedKill, serviceCases } from '../../faults/src/kill-cases.js';
import { code, table } from './markdown.js';

const sum = (cases: object) => Object.values(cases).reduce((total, list: unknown[]) => total + list.length, 0);

/** The kills that are not made, those with the same stand-in in one row. */
export function killTable(): string {
  const rows = new Map<string, RemovedKill[]>();
  for (const kill of removed) {
    const key = [kill.victim, kill.phase, kill.standIn, kill.why].join('\n');
    rows.set(key, [...(rows.get(key) ?? []), kill]);
  }
  const { length } = removed;
  return [
    `${sum(gatewayCases)} kills of the gateway, ${sum(serviceCases)} of the other services; ${length} more would find a state that one of these has left:`,
    '',
    table(
      ['Not killed', 'at', 'as that is', 'because'],
      [...rows.values()].map((kills) => {
        const { victim, phase, standIn, why } = kills[0]!;
        return [`${victim}, ${code(phase)}`, kills.map(({ at }) => at).join('; '), standIn, why];
      }),
    ),
  ].join('\n');
}
