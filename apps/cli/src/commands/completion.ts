import { type Command, Argument } from 'commander';
import type { Act } from '../app.js';
import { bashScript } from '../completion/bash.js';
import { fishScript } from '../completion/fish.js';
import { completeNames } from '../completion/names.js';
import { completionTree } from '../completion/tree.js';
import { zshScript } from '../completion/zsh.js';

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript };

/** `completion SHELL`, and the hidden command that its scripts ask for names. */
export function completionCommands(program: Command, act: Act): void {
  program
    .command('completion')
    .description('the completion script for a shell: source <(m2 completion bash)')
    .addArgument(new Argument('<shell>').choices(Object.keys(scripts)))
    .action(
      act(async (app, _options, shell: keyof typeof scripts) => {
        app.data(scripts[shell](completionTree(program)));
      }),
    );

  program
    .command('__complete <kind> [words...]', { hidden: true })
    .passThroughOptions()
    .allowUnknownOption()
    .helpOption(false)
    .action(
      act(async (app, _options, kind: string, words: string[]) => {
        // Whatever is wrong: a message in the middle of a half-typed line helps nobody.
        const names = await completeNames(app.world, kind, words).catch(() => []);
        if (names.length > 0) app.data(`${names.join('\n')}\n`);
      }),
    );
}
