import type { Command } from 'commander';
import type { Act } from '../app.js';
import { usageError } from '../errors.js';
import { exitCodeHelp } from '../exit-codes.js';

/** `m2 help`, `m2 help disk create`, `m2 help exit-codes`. */
export function helpCommand(program: Command, act: Act): void {
  program.helpCommand(false);
  program.addHelpText('after', '\nExit codes: m2 help exit-codes');
  program
    .command('help [command...]')
    .description('help for a command, or for exit-codes')
    .action(
      act(async (app, _options, words: string[]) => {
        if (words.join(' ') === 'exit-codes') return app.data(exitCodeHelp);
        let command = program;
        for (const word of words) {
          const child = command.commands.find((one) => one.name() === word);
          if (!child)
            throw usageError(`there is no command "m2 ${words.join(' ')}"`, 'See m2 help for those that there are.');
          command = child;
        }
        app.data(command.helpInformation());
      }),
    );
}
