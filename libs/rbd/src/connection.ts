import { channel } from 'node:diagnostics_channel';
import type { Operations } from './child/operations.ts';
import { startChild } from './child-process.ts';
import type { Failure, FromChild, Setup } from './protocol.ts';
import { blocklisted, connectErrorOf, errorOf, RbdError } from './rbd-error.ts';
import type { ImageRef, ProgressOptions } from './types.ts';

/** The arguments of an operation, without the context that the child adds. */
export type Arguments<Name extends keyof Operations> =
  Parameters<Operations[Name]> extends [unknown, ...infer Rest] ? Rest : never;
export type Answer<Name extends keyof Operations> = Awaited<ReturnType<Operations[Name]>>;
/** Runs an operation in the child. */
export type Call = <Name extends keyof Operations>(
  name: Name,
  args: Arguments<Name>,
  options?: ProgressOptions,
) => Promise<Answer<Name>>;

/**
 * `{ operation, phase, child }` of every call; `child` is the process id. `asked`: it was sent to the child. `moved`: it made progress.
 * `answered`: it is done, and its caller does not know yet. For observers in this process; cheap when there are none.
 */
const callChannel = channel('m2:rbd');

interface Pending {
  call: string;
  /** The images that it names. */
  images: string[];
  /** The image that it changes. */
  changes: string | undefined;
  /** Sends it to the child; called once. */
  begin(): void;
  /** It was not sent yet: an earlier call for the same image is late. */
  waiting: boolean;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  onProgress: ((done: number, total: number) => void) | undefined;
  signal: AbortSignal | undefined;
  /** Postpones the deadline, because there was progress. */
  extend(): void;
  /** The caller got its timeout; the child still works on it. No other call for the image that it changes begins before it has ended. */
  late: boolean;
  release(): void;
}

/** Which clients of the cluster a connection shuts out first, and where it writes down its own address. */
export interface Fencing {
  dead(): Promise<string[]>;
  connected(address: string, fenced: string[]): Promise<void>;
}

export interface Limits {
  /** For calls without their own deadline. */
  deadlineMs: number;
  /** How long the child may stay silent after a call's deadline, or when it has to close. */
  graceMs: number;
}

/**
 * One child process with its calls, from its start to its end. Every call ends: with the child's answer, at its deadline, or with the
 * child.
 */
export class Connection {
  /** Our address in the cluster, once connected. */
  address: string | undefined;
  /** Resolves when the process has ended. */
  readonly ended: Promise<void>;

  readonly #child: ReturnType<typeof startChild>;
  readonly #limits: Limits;
  readonly #fencing: Fencing;
  readonly #onUnusable: () => void;
  readonly #pending = new Map<number, Pending>();
  #fenced: string[] = [];
  #lastId = 0;
  #lastSign = performance.now();
  #watch: NodeJS.Timeout | undefined;
  #unusable = false;

  /** `onUnusable` is called once, before any call is rejected for that reason: the next call needs another connection. */
  constructor(setup: Omit<Setup, 'fence'>, limits: Limits, fencing: Fencing, onUnusable: () => void) {
    this.#limits = limits;
    this.#fencing = fencing;
    this.#onUnusable = onUnusable;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#child = startChild({
      onMessage: (message) => this.#receive(message),
      onExit: (reason) => {
        this.#abandon(new RbdError('unavailable', 'child', `the process that talks to the cluster ${reason}`));
        resolve();
      },
    });
    void this.#recorded(async () => {
      this.#fenced = await fencing.dead();
      this.#child.send({ type: 'setup', setup: { ...setup, fence: this.#fenced } });
    });
  }

  get pid(): number | undefined {
    return this.#child.process.pid;
  }

  readonly call: Call = (operation, args, options = {}) => {
    const { signal, onProgress, deadlineMs = this.#limits.deadlineMs } = options;
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#unusable) return Promise.reject(new RbdError('unavailable', operation, 'its connection has ended'));
    const id = (this.#lastId += 1);
    return new Promise((resolve, reject) => {
      const cancel = () => this.#cancel(id);
      const deadline = setTimeout(() => this.#miss(id, deadlineMs), deadlineMs);
      signal?.addEventListener('abort', cancel, { once: true });
      const images = imagesOf(args).map(keyOf);
      const waiting = this.#isLate(images);
      const begin = () => {
        this.#child.send({ type: 'call', id, operation, args });
        this.#publish(id, 'asked');
      };
      this.#pending.set(id, {
        call: operation,
        images,
        changes: images[changes[operation] ?? -1],
        begin,
        waiting,
        resolve: resolve as (value: unknown) => void,
        reject,
        onProgress,
        signal,
        extend: () => deadline.refresh(),
        late: false,
        release() {
          clearTimeout(deadline);
          signal?.removeEventListener('abort', cancel);
        },
      });
      if (!waiting) begin();
    });
  };

  /**
   * A change that is late may still happen. Whoever looks at the image meanwhile would see that it did not, and undo too little; so they
   * wait.
   */
  #isLate(images: string[]): boolean {
    return [...this.#pending.values()].some(
      ({ late, changes: changed }) => late && changed !== undefined && images.includes(changed),
    );
  }

  #cancel(id: number): void {
    const pending = this.#pending.get(id);
    if (pending?.waiting) this.#take(id)?.reject(pending.signal?.reason);
    else this.#child.send({ type: 'cancel', id });
  }

  /** Ends the process at once. Calls under way reject with `unavailable`. */
  kill(): void {
    this.#child.process.kill('SIGKILL');
  }

  /**
   * Lets the child close its images and its connection. Kills it when that takes longer than `graceMs`. Returns whether it ended in good
   * order.
   */
  async close(): Promise<boolean> {
    this.#child.send({ type: 'close' });
    const impatience = setTimeout(() => this.kill(), this.#limits.graceMs);
    await this.ended;
    clearTimeout(impatience);
    return this.#child.process.exitCode === 0;
  }

  #receive(message: FromChild): void {
    this.#lastSign = performance.now();
    if (message.type === 'connected') {
      this.address = message.address;
      void this.#recorded(async () => {
        await this.#fencing.connected(message.address, this.#fenced);
        this.#child.send({ type: 'begin' });
      });
    } else if (message.type === 'unconnected') {
      this.#abandon(connectErrorOf(message));
    } else if (message.type === 'progress') {
      this.#progress(message);
    } else if (message.type === 'answer') {
      this.#publish(message.id, 'answered');
      this.#take(message.id)?.resolve(message.value);
    } else {
      this.#fail(message.id, message);
    }
  }

  #progress({ id, done, total }: FromChild & { type: 'progress' }): void {
    const pending = this.#pending.get(id);
    if (!pending || pending.late) return;
    pending.extend();
    this.#publish(id, 'moved');
    pending.onProgress?.(done, total);
  }

  #fail(id: number, failure: Failure): void {
    const pending = this.#take(id);
    if (!pending) return;
    pending.reject(pending.signal?.aborted ? pending.signal.reason : errorOf(failure));
    if (failure.errno === blocklisted) {
      this.#abandon(new RbdError('unavailable', failure.call, 'the cluster has shut this client out', blocklisted));
    }
  }

  /** At a call's deadline: rejects the call, asks the child to stop it, and watches the child until it answers. */
  #miss(id: number, deadlineMs: number): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    const timeout = new RbdError('timeout', pending.call, `no answer within ${deadlineMs} ms`);
    if (pending.waiting) return this.#take(id)?.reject(timeout);
    pending.late = true;
    pending.release();
    pending.reject(timeout);
    this.#child.send({ type: 'cancel', id });
    this.#watch ??= setInterval(() => this.#checkLife(), this.#limits.graceMs);
  }

  /**
   * A child that owes an answer and has been silent for a while hangs, or waits for a cluster that is down. A new one costs a fraction of a
   * second. While it still answers other calls, one slow call is no reason to end those.
   */
  #checkLife(): void {
    if (![...this.#pending.values()].some(({ late }) => late)) {
      clearInterval(this.#watch);
      this.#watch = undefined;
    } else if (performance.now() - this.#lastSign >= this.#limits.graceMs) {
      this.#abandon(new RbdError('unavailable', 'child', 'the process that talks to the cluster hung and was killed'));
    }
  }

  /** Without its address on record, the connection must not change anything. */
  #recorded(work: () => Promise<void>): Promise<void> {
    return work().catch((error: unknown) => {
      const reason = `the addresses of its connections could not be read or recorded: ${String(error)}`;
      this.#abandon(new RbdError('unavailable', 'child', reason));
    });
  }

  /** Ends the process and all calls. */
  #abandon(error: RbdError): void {
    if (!this.#unusable) this.#onUnusable();
    this.#unusable = true;
    clearInterval(this.#watch);
    this.kill();
    for (const id of this.#pending.keys()) this.#take(id)?.reject(error);
  }

  #publish(id: number, phase: 'asked' | 'moved' | 'answered'): void {
    const operation = this.#pending.get(id)?.call;
    if (operation) callChannel.publish({ operation, phase, child: this.pid });
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.release();
    if (pending?.late) this.#beginWaiting();
    return pending;
  }

  #beginWaiting(): void {
    for (const pending of this.#pending.values()) {
      if (!pending.waiting || this.#isLate(pending.images)) continue;
      pending.waiting = false;
      pending.begin();
    }
  }
}

const imagesOf = (args: unknown[]): ImageRef[] =>
  args.filter((arg): arg is ImageRef => typeof arg === 'object' && arg !== null && 'image' in arg);

/** Which of the images that a call names it changes, by their places among those. All other calls only look, or work on a handle. */
const changes: Partial<Record<keyof Operations, number>> = {
  clone: 1,
  copy: 1,
  create: 0,
  flatten: 0,
  importFile: 0,
  metadataSet: 0,
  remove: 0,
  rename: 0,
  resize: 0,
  snapCreate: 0,
  snapProtect: 0,
  snapRemove: 0,
  snapUnprotect: 0,
};

function keyOf({ pool, namespace = '', image }: ImageRef): string {
  return `${pool}/${namespace}/${image}`;
}
