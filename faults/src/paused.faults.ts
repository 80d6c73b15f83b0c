import { M2Client } from '@m2/cli';
import type { Operation, ServiceName } from '@m2/contracts';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { processOf } from './children.js';
import { happened } from './events.js';
import {
  askDeprovision,
  askProvision,
  eventually,
  powerCommands,
  type TestInstallation,
  startTestInstallation,
  succeeded,
} from './installation.js';
import type { KillPoint } from './kill-switch.js';
import { expectNothing, expectOnly, sql } from './observed-state.js';
import { made } from './provision-requests.js';

let installation: TestInstallation;
const twice: ServiceName[] = ['gateway', 'hil'];

beforeAll(async () => {
  installation = await startTestInstallation({ nodes: 1, mortal: twice, twice });
});
afterAll(() => installation?.close());

const goOn = async () => {
  for (const service of twice)
    for (const pid of [await processOf(installation, service), installation.second(service).pid])
      if (pid !== undefined) process.kill(pid, 'SIGCONT');
};
afterEach(goOn);

const pause = (service: ServiceName, point: KillPoint) =>
  installation.killSwitch(service).arm({ ...point, signal: 'SIGSTOP' });
const idsOf = ({ about }: Operation) => [about['provision']!, about['disk']!];
/** How many processes of a service have had a heartbeat within the last seconds. */
const lively = async (service: ServiceName, seconds: number): Promise<number> => {
  const { lives } = await sql<{ lives: number }>(
    installation,
    `SELECT json_build_object('lives', count(*)) FROM m2_${service}.m2_processes WHERE seen_at > now() - interval '${seconds} seconds'`,
  );
  return lives;
};
const paused = (service: ServiceName) =>
  eventually(`a process of ${service} to stand still`, async () =>
    installation.killSwitch(service).struck ? true : undefined,
  );

/** The paused process comes back, and whatever it was about to do, it has tried: it has a heartbeat again. */
async function comeBack(service: ServiceName): Promise<void> {
  await goOn();
  await eventually(`both processes of ${service}`, async () => ((await lively(service, 5)) === 2 ? true : undefined));
}

async function expectOneProvision(operation: Operation): Promise<void> {
  await expectOnly(installation, [operation]);
  expect(await happened(installation, idsOf(operation))).toEqual(made);
  await succeeded(installation, await askDeprovision(installation, operation.about['provision']!));
  await expectNothing(installation);
}

describe('a hil-adapter that stands still for longer than its lease comes back and does no harm,', () => {
  it.each([
    { subject: 'node.reserve', phase: 'acted' },
    { subject: 'power.boot', phase: 'begin' },
    { subject: 'power.boot', phase: 'acted' },
    { subject: 'power.boot', phase: 'committed' },
  ])('paused in $subject, $phase', async ({ subject, phase }) => {
    let operation: Operation | undefined;
    const power = await powerCommands(installation, async () => {
      pause('hil', { channel: 'm2:command', at: { subject: `m2.cmd.hil.${subject}`, phase } });
      const asked = await askProvision(installation);
      await paused('hil');
      await eventually('the end of its lease', async () => ((await lively('hil', 15)) === 1 ? true : undefined));
      await comeBack('hil');
      operation = await succeeded(installation, asked);
    });
    expect(power).toEqual(['power 1']);
    await expectOneProvision(operation!);
  });
});

describe('a gateway that stands still for longer than its lease comes back when another one has gone on,', () => {
  it.each(['intent', 'answered', 'committed'])('paused in power-on, %s', async (phase) => {
    const [url, token] = [installation.second('gateway').origin, installation.adminToken];
    const elsewhere = { ...installation, impatient: new M2Client({ url, token, attempts: 1 }) };
    let operation: Operation | undefined;
    const power = await powerCommands(installation, async () => {
      pause('gateway', {
        channel: 'm2:operation:step',
        at: { kind: 'provision', step: 'power-on', direction: 'do', phase },
      });
      operation = await askProvision(installation);
      await paused('gateway');
      operation = await succeeded(elsewhere, operation);
      await comeBack('gateway');
    });
    expect(power).toEqual(['power 1']);
    await expectOneProvision(operation!);
  });
});
