import { Locks } from '@m2/locks';
import { setTimeout as pause } from 'node:timers/promises';
import {
  PowerError,
  type BmcAddress,
  type BmcTurns,
  type BootCall,
  type PowerCall,
  type PowerDriver,
  type PowerState,
} from '../power.port.js';
import { checkBmc, retriesWithin } from './ipmi-arguments.js';
import { IpmiHome } from './ipmi-home.js';
import { nextBootFromNetwork, powerOff, powerOn, readPower } from './ipmi-output.js';
import { IpmiSession, SuiteRefused } from './ipmi-session.js';
import { Room } from './room.js';

export interface IpmiDriverOptions {
  /** The most BMCs with a session at the same time. A session mostly waits for its BMC, and holds 5 MB. */
  concurrency?: number;
  /** Milliseconds between two readings of the power state. */
  pollMs?: number;
  /** By default those of this driver alone: no other process talks to these BMCs. */
  turns?: BmcTurns;
  /** For ipmitool's home directory and the FIFOs of its commands; absent: a temporary one. */
  directory?: string;
}

interface Conversation {
  session: IpmiSession;
  /** The power state, as read when the session was opened. */
  power: PowerState;
  where: string;
  signal: AbortSignal;
}

const keyOf = (bmc: BmcAddress) => `${bmc.address.toLowerCase()} port ${bmc.port}`;

const never = new AbortController().signal;

function ownTurns(): BmcTurns {
  const locks = new Locks();
  return {
    take: (bmc, patience, talk) =>
      locks.exclusive(
        bmc,
        () => talk(never),
        () => patience,
      ),
  };
}

/** Power over IPMI 2.0 (RMCP+) with ipmitool, one process and one login per call. */
export class IpmiDriver implements PowerDriver {
  readonly #room: Room;
  readonly #turns: BmcTurns;
  readonly #pollMs: number;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();
  /** The cipher suite that worked, per BMC. */
  readonly #suites = new Map<string, number>();
  readonly #directory: string | undefined;
  #home: Promise<IpmiHome> | undefined;

  constructor({ concurrency = 64, pollMs = 250, turns = ownTurns(), directory }: IpmiDriverOptions = {}) {
    this.#directory = directory;
    this.#room = new Room(concurrency);
    this.#turns = turns;
    this.#pollMs = pollMs;
  }

  state(bmc: BmcAddress, call: PowerCall): Promise<PowerState> {
    return this.#converse(bmc, call, ({ power }) => Promise.resolve(power));
  }

  bootFromNetwork(bmc: BmcAddress, call: BootCall): Promise<void> {
    return this.#converse(bmc, call, async (conversation) => {
      const { session, power } = conversation;
      if (power === 'on') {
        await session.ask(powerOff);
        await this.#observe(conversation, 'off', 2);
      }
      await call.whenOff?.();
      // After the power-off, which clears the boot flags on some BMCs, and right before the power-on: without a
      // restart the BMC drops them after 60 seconds (IPMI 2.0 section 28.13).
      await session.ask(nextBootFromNetwork(call.firmware));
      await session.ask(powerOn);
      await this.#observe(conversation, 'on', 1);
    });
  }

  ensureOff(bmc: BmcAddress, call: PowerCall): Promise<void> {
    return this.#converse(bmc, call, async (conversation) => {
      if (conversation.power === 'on') await conversation.session.ask(powerOff);
      await this.#observe(conversation, 'off', 2);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.allSettled(this.#underWay);
    await (await this.#home)?.remove();
    this.#home = undefined;
  }

  #atHome(): Promise<IpmiHome> {
    this.#home ??= IpmiHome.make(this.#directory).catch((error: unknown) => {
      // A full disk now must not mean an error for ever.
      this.#home = undefined;
      throw error;
    });
    return this.#home;
  }

  /** Waits for the BMC's turn, opens a session with the first cipher suite that works, and leaves no process behind. */
  async #converse<T>(bmc: BmcAddress, call: PowerCall, talk: (to: Conversation) => Promise<T>): Promise<T> {
    checkBmc(bmc);
    const where = keyOf(bmc);
    const deadline = performance.now() + call.deadlineMs;
    const { signal, lose, release } = this.#limits(where, call);
    const work = this.#turns.take(where, signal, (lost) => {
      lost.addEventListener('abort', lose, { once: true });
      return this.#room
        .with(signal, () => this.#login(bmc, deadline, signal, talk))
        .finally(() => lost.removeEventListener('abort', lose));
    });
    this.#underWay.add(work);
    try {
      return await work;
    } finally {
      this.#underWay.delete(work);
      release();
    }
  }

  async #login<T>(
    bmc: BmcAddress,
    deadline: number,
    signal: AbortSignal,
    talk: (to: Conversation) => Promise<T>,
  ): Promise<T> {
    const where = keyOf(bmc);
    const home = await this.#atHome();
    const known = this.#suites.get(where);
    const suites = bmc.cipherSuites.toSorted((a, b) => Number(b === known) - Number(a === known));
    for (const suite of suites) {
      const fifo = await home.takeFifo();
      const tries = retriesWithin(deadline - performance.now());
      const session = new IpmiSession(bmc, suite, tries, { home: home.path, fifo }, signal);
      try {
        const power = await session.ask(readPower);
        this.#suites.set(where, suite);
        return await talk({ session, power, where, signal });
      } catch (error) {
        if (!(error instanceof SuiteRefused)) throw error;
      } finally {
        await session.close();
        home.giveBack(fifo);
      }
    }
    throw new PowerError(
      'bmc.protocol',
      `The BMC at ${where} accepts none of the cipher suites ${suites.join(', ')}. ` +
        'Give the ones it has in the node\'s registration ("ipmitool channel getciphers ipmi" lists them).',
    );
  }

  /**
   * Reads until the state was seen `times` in a row, for as long as the call may last. The BMC's "done" does not count: some say so and do
   * nothing, and only the readings distinguish that from a slow BMC.
   */
  async #observe({ session, where, signal }: Conversation, wanted: PowerState, times: number): Promise<void> {
    let readings = 0;
    try {
      for (let seen = 0; ;) {
        seen = (await session.ask(readPower)) === wanted ? seen + 1 : 0;
        readings += 1;
        if (seen === times) return;
        await pause(this.#pollMs, undefined, { signal });
      }
    } catch (error) {
      const cause: unknown = signal.aborted ? signal.reason : error;
      if (readings === 0 || !(cause instanceof PowerError) || cause.code !== 'bmc.timeout') throw cause;
      throw new PowerError(
        'bmc.ignored_command',
        `The BMC at ${where} was told to power ${wanted} and agreed, but the node did not stay ${wanted} before the deadline. ` +
          'Reset the BMC, or power the node by hand; then repeat the operation.',
      );
    }
  }

  /** One signal for everything that can end a call early; its reason is the `PowerError` to reject with. */
  #limits(where: string, { deadlineMs, signal: cancelled }: PowerCall) {
    const limit = new AbortController();
    const onTime = () => {
      limit.abort(
        new PowerError(
          'bmc.timeout',
          `The BMC at ${where} did not finish in ${deadlineMs} ms. Check its load and its network; then repeat the operation.`,
        ),
      );
    };
    const onCancel = () =>
      limit.abort(new PowerError('operation.cancelled', `The call to the BMC at ${where} was cancelled.`));
    const lose = () =>
      limit.abort(new PowerError('service.unavailable', `The turn at the BMC at ${where} is another process's.`));
    const onClose = () => limit.abort(new PowerError('service.unavailable', 'The power driver is being closed.'));
    const timer = setTimeout(onTime, deadlineMs);
    cancelled?.addEventListener('abort', onCancel);
    this.#closing.signal.addEventListener('abort', onClose);
    if (cancelled?.aborted) onCancel();
    if (this.#closing.signal.aborted) onClose();
    const release = () => {
      clearTimeout(timer);
      cancelled?.removeEventListener('abort', onCancel);
      this.#closing.signal.removeEventListener('abort', onClose);
    };
    return { signal: limit.signal, lose, release };
  }
}
