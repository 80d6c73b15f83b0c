/**
 * iPXE scripts as a syntax tree (https://ipxe.org/scripting). iPXE has no quoting: a line is split at white space, `#` starts a
 * comment, `&&` and `||` join commands, a line break ends them, and `${name}` is replaced wherever it stands. So a
 * literal with any such character could not be made safe: it is refused.
 */

/** A value cannot be put into a script. Nothing is escaped, as iPXE has no way to escape. */
export class UnsafeValue extends Error {
  override readonly name = 'UnsafeValue';
  readonly code = 'boot.unsafe_value';

  /** The value itself is not named: it may be a secret. */
  constructor(what: string) {
    super(
      `The ${what} cannot be carried by a boot script. Use letters, digits and . _ : / @ = , + ? ~ - only, no dash first.`,
    );
  }
}

/** Settings of iPXE that our scripts read (https://ipxe.org/cfg), and one of our own. */
const readable = ['errno', 'm2-round', 'netX/mac'] as const;
type Readable = (typeof readable)[number];
/** A setting of our own needs its type, or iPXE cannot count with it. */
type Writable = 'initiator-iqn' | 'username' | 'password' | 'm2-round:int32';

/** A setting whose value iPXE fills in. No parsed input is ever an instance of this class: only code makes one. */
export class Reference {
  readonly #setting: Readable;

  constructor(setting: Readable) {
    if (!readable.includes(setting)) throw new UnsafeValue('setting');
    this.#setting = setting;
  }

  render(): string {
    return `\${${this.#setting}}`;
  }
}

export type Value = string | Reference;

export type Statement =
  | { do: 'set'; setting: Writable; value: Value }
  /** Adds one to a number. */
  | { do: 'inc'; setting: 'm2-round' }
  | { do: 'echo'; text: Value[] }
  /** Returns only when it failed. */
  | { do: 'sanboot'; drive: '0x80'; path: Value }
  /** Fetches another script and goes on with it; `to` is written together. */
  | { do: 'chain'; to: Value[] }
  | { do: 'label'; name: string }
  | { do: 'goto'; label: string }
  | { do: 'sleep'; seconds: number }
  | { do: 'reboot' }
  /** Leaves iPXE: the firmware goes on with its next boot device. */
  | { do: 'exit' }
  /** `otherwise` is done when `attempt` failed; without it, a command that fails would end the script. */
  | { do: 'try'; attempt: Statement; otherwise: Statement }
  | { do: 'when'; equal: [Value, Value]; act: Statement };

/** The text of a script. Rejects with `UnsafeValue`; a jump to a label that is not there is an error in our code. */
export function renderScript(statements: Statement[]): string {
  const labels = statements.flatMap((statement) => (statement.do === 'label' ? [statement.name] : []));
  if (new Set(labels).size !== labels.length) throw new Error(`A label is there twice among ${labels.join(', ')}`);
  for (const label of statements.flatMap(jumps)) {
    if (!labels.includes(label)) throw new Error(`There is no label ${label}`);
  }
  return ['#!ipxe', ...statements.map(render), ''].join('\n');
}

function jumps(statement: Statement): string[] {
  switch (statement.do) {
    case 'goto':
      return [statement.label];
    case 'try':
      return [...jumps(statement.attempt), ...jumps(statement.otherwise)];
    case 'when':
      return jumps(statement.act);
    default:
      return [];
  }
}

function render(statement: Statement): string {
  switch (statement.do) {
    case 'set':
      return `set ${statement.setting} ${word(statement.value, statement.setting)}`;
    case 'inc':
      return `inc ${statement.setting}`;
    case 'echo':
      return `echo ${statement.text.map((part) => sentence(part)).join(' ')}`;
    case 'sanboot':
      return `sanboot --drive ${statement.drive} ${word(statement.path, 'path of the disk')}`;
    case 'chain':
      // --replace: a script that asks again for hours would otherwise nest until memory is full.
      return `chain --replace --autofree ${statement.to.map((part) => word(part, 'address')).join('')}`;
    case 'label':
      return `:${word(statement.name, 'label')}`;
    case 'goto':
      return `goto ${word(statement.label, 'label')}`;
    case 'sleep':
      if (!Number.isSafeInteger(statement.seconds) || statement.seconds < 0) throw new UnsafeValue('number of seconds');
      return `sleep ${statement.seconds}`;
    case 'reboot':
    case 'exit':
      return statement.do;
    case 'try':
      return `${render(statement.attempt)} || ${render(statement.otherwise)}`;
    case 'when': {
      const [left, right] = statement.equal.map((value) => word(value, 'number'));
      return `iseq ${left} ${right} && ${render(statement.act)} ||`;
    }
  }
}

/** One argument. Everything but letters, digits and `._:/@=,+?~-` is refused, and a dash first: it would be an option. */
function word(value: Value, what: string): string {
  if (value instanceof Reference) return value.render();
  if (typeof value !== 'string' || !/^[A-Za-z0-9._:/@=,+?~][A-Za-z0-9._:/@=,+?~-]*$/.test(value)) {
    throw new UnsafeValue(what);
  }
  return value;
}

/** Words to be printed, with one blank between them. */
function sentence(value: Value): string {
  if (value instanceof Reference) return value.render();
  return value
    .split(' ')
    .map((part) => word(part, 'text'))
    .join(' ');
}
