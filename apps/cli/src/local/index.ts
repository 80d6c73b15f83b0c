import type { Command } from 'commander';
import type { Act } from '../app.js';
import { checkCommand } from './check.js';
import { benchCommand } from './bench.js';
import { demoCommand } from './demo.js';
import { downCommand } from './down.js';
import { logsCommand } from './logs.js';
import { statusCommand } from './status.js';
import { testCommand } from './test.js';
import { upCommand } from './up.js';

const local = [
  demoCommand,
  benchCommand,
  upCommand,
  downCommand,
  statusCommand,
  logsCommand,
  testCommand,
  checkCommand,
];

/** Commands for this machine; everything else talks to a gateway. */
export function localCommands(program: Command, act: Act): void {
  program.commandsGroup('On this machine:');
  for (const add of local) add(program, act);
  program.commandsGroup('Commands:');
}
