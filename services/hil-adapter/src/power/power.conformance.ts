import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BmcAddress, PowerDriver, PowerState } from './power.port.js';

export type Behaviour =
  | 'obeys'
  /** Says that it did it, and did nothing. */
  | 'ignores'
  /** Refuses. */
  | 'refuses'
  /** Powers off, and the readings after that say off, on, off, off … */
  | 'bounces';

/** A node behind a real or simulated BMC, seen from the hardware's side. */
export interface TestNode {
  bmc: BmcAddress;
  power(): Promise<PowerState>;
  setPower(power: PowerState): Promise<void>;
  /** The device of the next boot that the BMC has set. */
  nextBoot(): Promise<string>;
  /** The requests to the BMC, in order: `read 0`, `read 1`, `boot pxe`, `power 0`, `power 1`. */
  journal(): Promise<string[]>;
  behave(behaviour: Behaviour): Promise<void>;
  /** The BMC stops answering, and answers again. */
  hang(): void;
  wake(): void;
  stop(): Promise<void>;
}

const deadlineMs = 20_000;
const bios = { deadlineMs, firmware: 'bios' } as const;
/** The error of a call that fails while the test does something else. It is handled from the start, so that it is never unhandled. */
export const failureOf = (call: Promise<unknown>): Promise<unknown> => call.catch((error: unknown) => error);
const commands = (journal: string[]) => journal.filter((line) => !line.startsWith('read'));

/** What every power driver must do, against BMCs that obey and BMCs that do not. */
export function powerConformance(name: string, open: () => PowerDriver, startNode: () => Promise<TestNode>): void {
  describe(`power driver ${name}`, () => {
    let driver: PowerDriver;
    let node: TestNode;
    beforeAll(() => {
      driver = open();
    });
    afterAll(() => driver.close());
    beforeEach(async () => {
      node = await startNode();
    });
    afterEach(() => node.stop());

    it('reads the power state', async () => {
      expect(await driver.state(node.bmc, { deadlineMs })).toBe('off');
      await node.setPower('on');
      expect(await driver.state(node.bmc, { deadlineMs })).toBe('on');
    });

    it('boots a node that is off from the network, and observes it on', async () => {
      await driver.bootFromNetwork(node.bmc, bios);
      expect(await node.power()).toBe('on');
      expect(await node.nextBoot()).toBe('pxe');
      const journal = await node.journal();
      expect(commands(journal)).toEqual(['boot pxe', 'power 1']);
      expect(journal.at(-1)).toBe('read 1');
    });

    it('boots with UEFI firmware too', async () => {
      await driver.bootFromNetwork(node.bmc, { deadlineMs, firmware: 'uefi' });
      expect(commands(await node.journal())).toEqual(['boot pxe', 'power 1']);
    });

    it('turns a running node off, sees it off, and only then boots it', async () => {
      await node.setPower('on');
      await driver.bootFromNetwork(node.bmc, bios);
      const journal = await node.journal();
      expect(commands(journal)).toEqual(['power 0', 'boot pxe', 'power 1']);
      const off = journal.slice(journal.indexOf('power 0') + 1, journal.indexOf('boot pxe'));
      expect(off.slice(-2)).toEqual(['read 0', 'read 0']);
    });

    it('turns off, and leaves a node alone that is off', async () => {
      await node.setPower('on');
      await driver.ensureOff(node.bmc, { deadlineMs });
      expect(await node.power()).toBe('off');
      await driver.ensureOff(node.bmc, { deadlineMs });
      expect(commands(await node.journal())).toEqual(['power 0']);
    });

    it('takes only two readings in a row for off', async () => {
      await node.behave('bounces');
      await node.setPower('on');
      await driver.ensureOff(node.bmc, { deadlineMs });
      const journal = await node.journal();
      expect(journal.slice(journal.indexOf('power 0') + 1)).toEqual(['read 0', 'read 1', 'read 0', 'read 0']);
    });

    /** Room for a login and a reading on a busy machine; the call lasts as long. */
    const patience = { deadlineMs: 5000 };
    const ignored = { code: 'bmc.ignored_command', message: expect.stringContaining('Reset the BMC') as string };

    it.each(['off', 'on'] as const)('finds out that a BMC ignores the boot of a node that is %s', async (power) => {
      await node.setPower(power);
      await node.behave('ignores');
      await expect(driver.bootFromNetwork(node.bmc, { ...bios, ...patience })).rejects.toMatchObject(ignored);
      expect(await node.power()).toBe(power);
    });

    it('finds out that a BMC ignores the power-off', async () => {
      await node.setPower('on');
      await node.behave('ignores');
      await expect(driver.ensureOff(node.bmc, patience)).rejects.toMatchObject(ignored);
      expect(await node.power()).toBe('on');
    });

    it('powers nothing on when the boot device was refused', async () => {
      await node.behave('refuses');
      await expect(driver.bootFromNetwork(node.bmc, bios)).rejects.toMatchObject({ code: 'bmc.protocol' });
      expect(await node.power()).toBe('off');
      expect(commands(await node.journal())).toEqual([]);
    });

    it('says that the password is wrong, and does not say the password', async () => {
      const bmc = { ...node.bmc, password: 'not-this-one' };
      const error = await failureOf(driver.state(bmc, { deadlineMs }));
      expect(error).toMatchObject({ code: 'bmc.auth_failed' });
      expect(String((error as Error).stack)).not.toContain('not-this-one');
    });

    it('says that the user is wrong', async () => {
      const bmc = { ...node.bmc, user: 'nobody' };
      await expect(driver.state(bmc, { deadlineMs })).rejects.toMatchObject({ code: 'bmc.auth_failed' });
    });

    it('gives up on a BMC that does not answer, before the deadline', async () => {
      node.hang();
      await expect(driver.state(node.bmc, { deadlineMs: 8000 })).rejects.toMatchObject({ code: 'bmc.unreachable' });
      node.wake();
      expect(await driver.state(node.bmc, { deadlineMs })).toBe('off');
    });

    it('keeps a deadline that is shorter than its patience', async () => {
      node.hang();
      await expect(driver.state(node.bmc, { deadlineMs: 300 })).rejects.toMatchObject({ code: 'bmc.timeout' });
    });

    it('can be cancelled', async () => {
      node.hang();
      const cancel = new AbortController();
      const call = driver.state(node.bmc, { deadlineMs, signal: cancel.signal });
      cancel.abort();
      await expect(call).rejects.toMatchObject({ code: 'operation.cancelled' });
    });

    it('serves one call after the other to one BMC, and lets none of them get lost', async () => {
      const calls = Array.from({ length: 8 }, (_, call) =>
        call % 2 === 0 ? driver.ensureOff(node.bmc, { deadlineMs }) : driver.bootFromNetwork(node.bmc, bios),
      );
      await Promise.all(calls);
      expect(await node.power()).toBe('on');
      expect(commands(await node.journal()).filter((line) => line === 'power 1')).toHaveLength(4);
    });

    it('fails what is under way when it is closed', async () => {
      node.hang();
      const other = open();
      const failed = failureOf(other.state(node.bmc, { deadlineMs }));
      await other.close();
      expect(await failed).toMatchObject({ code: 'service.unavailable' });
      await expect(other.state(node.bmc, { deadlineMs })).rejects.toMatchObject({ code: 'service.unavailable' });
    });
  });
}
