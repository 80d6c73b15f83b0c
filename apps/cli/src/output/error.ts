import type { CliError } from '../errors.js';
import { clean, type Style } from './style.js';

/** What a person reads when a command fails. */
export function formatError(error: Pick<CliError, 'code' | 'title' | 'detail' | 'remedy'>, style: Style): string {
  const { title, detail } = error;
  const message = detail === '' || detail === title ? title : `${title}: ${detail}`;
  const lines = [`${style.red('error:')} ${clean(message)}`, `  code: ${clean(error.code)}`];
  if (error.remedy !== '') lines.push(`  try: ${clean(error.remedy)}`);
  return `${lines.join('\n')}\n`;
}
