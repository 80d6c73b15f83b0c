import { describe, expect, it } from 'vitest';
import { exitCodes } from './exit-codes.js';
import { events, operationOf, refuse } from './test/gateway.js';
import { Person } from './test/person.js';
import { accept, operationPath, start } from './test/setup.js';

describe('exit codes', () => {
  it.each([
    ['no command', []],
    ['an unknown command', ['dosk', 'list']],
    ['an unknown option', ['disk', 'list', '--lmit', '3']],
    ['a missing argument', ['disk', 'show']],
    ['a missing option', ['disk', 'create', 'web-1']],
    ['a size that is none', ['disk', 'create', 'web-1', '--image', 'debian', '--size', '20X']],
    ['two sources', ['image', 'import', 'x', '--file', 'a', '--url', 'http://b/']],
    ['no source', ['image', 'import', 'x']],
    ['an image and a disk', ['provision', 'node-1', '--image', 'a', '--disk', 'b']],
    ['neither an image nor a disk', ['provision', 'node-1']],
    ['a name that is none', ['disk', 'show', '../x']],
    ['a filter that is given twice', ['operation', 'list', '--in', 'failed', '--in', 'succeeded']],
    ['a type that is given twice', ['events', '--type', 'image.*', '--type=hil.*']],
    ['a bench with too many BMCs', ['bench', 'provision', '--full']],
    ['nobody to ask', ['disk', 'delete', 'web-1']],
    ['an address that is none', ['whoami', '--url', 'file:///etc']],
    ['credentials in an address', ['whoami', '--url', 'http://a:b@c/']],
  ])('usage: %s', async (_what, args) => {
    const { person } = await start();
    const { code, out, err } = await person.m2(args);
    expect(code).toBe(exitCodes.usage);
    expect(out).toBe('');
    // Without a command, the help is the answer.
    expect(err).toMatch(args.length === 0 ? /^Usage: m2 / : /^error: .+\n {2}code: .+\n {2}try: .+\n$/);
  });

  it.each([
    [['disk', 'list', '--lmit', '3'], 'Did you mean --limit? See m2 help disk list.'],
    [['disk', 'show'], 'See m2 help disk show.'],
    [['disk', 'create', 'web-1'], 'See m2 help disk create.'],
    [['disk', 'lst'], 'Did you mean list? See m2 help disk.'],
    [['dosk'], 'Did you mean disk? See m2 help.'],
    [['help', 'dosk'], 'See m2 help for those that there are.'],
  ])('usage: %j names the help for the command', async (args, remedy) => {
    const { person } = await start();
    expect((await person.m2(args)).err).toContain(`\n  try: ${remedy}\n`);
  });

  it('suggests the command that was meant', async () => {
    const { person } = await start();
    expect((await person.m2(['dosk'])).err).toContain('Did you mean disk?');
    expect((await person.m2(['disk', 'lst'])).err).toContain('Did you mean list?');
  });

  it.each([
    ['image.not_an_image', exitCodes.failed],
    ['storage.full', exitCodes.failed],
    ['quota.exceeded', exitCodes.failed],
    ['request.invalid', exitCodes.usage],
    ['disk.not_found', exitCodes.notFound],
    ['auth.missing', exitCodes.notAuthorised],
    ['auth.forbidden', exitCodes.notAuthorised],
    ['disk.in_use', exitCodes.conflict],
    ['request.deadline', exitCodes.unreachable],
  ] as const)('refused with %s: %i, and the error says what to do', async (error, expected) => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/disks/web-1', refuse(error, 'this very case'));
    const { code, out, err } = await person.m2(['disk', 'show', 'web-1']);
    expect(code).toBe(expected);
    expect(out).toBe('');
    expect(err).toMatch(/^error: .+: this very case\n {2}code: .+\n {2}try: .+\n$/);
    expect(err).toContain(`code: ${error}`);
  });

  it('unreachable: nothing was started here', async () => {
    const { code, err } = await new Person().m2(['node', 'list']);
    expect(code).toBe(exitCodes.unreachable);
    expect(err).toContain('m2 up');
  });

  it.each([
    ['failed', { code: 'bmc.unreachable', detail: 'no answer from 10.0.0.7' }, exitCodes.failed],
    ['failed', { code: 'node.busy', detail: 'node-1 is reserved' }, exitCodes.conflict],
    ['cancelled', null, exitCodes.failed],
    ['needs_attention', { code: 'bmc.timeout', detail: 'it did not go off' }, exitCodes.needsAttention],
  ] as const)('an operation that ends %s with %j: %i', async (state, error, expected) => {
    const { gateway, person } = await start();
    gateway.on('POST /v1/projects/lab/provisions', accept);
    const attention = state === 'needs_attention' ? 'node-1 may still be on' : null;
    gateway.on(operationPath, events(operationOf('running'), operationOf(state, {}, { error, attention })));
    const { code, out, err } = await person.m2(['provision', 'node-1', '--image', 'debian']);
    expect(code).toBe(expected);
    expect(out).toBe('');
    expect(err).toContain(attention ?? error?.detail ?? 'was undone');
  });

  it('are documented', async () => {
    const { code, out } = await new Person().m2(['help', 'exit-codes']);
    expect(code).toBe(0);
    for (const number of Object.values(exitCodes)) expect(out).toMatch(new RegExp(`^ {2}${number} `, 'm'));
  });

  it('help and version are no errors', async () => {
    const person = new Person();
    expect(await person.m2(['--version'])).toMatchObject({ code: 0, out: '0.1.0\n', err: '' });
    expect(await person.m2(['disk', 'create', '--help'])).toMatchObject({ code: 0, err: '' });
    expect((await person.m2(['help', 'disk', 'create'])).out).toContain('--size');
    expect((await person.m2(['help', 'dsk'])).code).toBe(exitCodes.usage);
  });
});
