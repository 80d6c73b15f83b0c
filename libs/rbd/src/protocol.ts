/** Messages between the parent and its child, sent with `process.send` in the advanced serialization. */

/** The first message but for calls, which wait for it. It is not in the arguments, which every user of the machine can read. */
export interface Setup {
  conf: string;
  user: string;
  connectSeconds: number;
  monSeconds: number;
  osdSeconds: number;
  /** Addresses of children that died: their requests in flight must not arrive after we have begun. */
  fence: string[];
}

export type ToChild =
  | { type: 'setup'; setup: Setup }
  /** The answer to `connected`: its address is written down, so the calls may begin. */
  | { type: 'begin' }
  | { type: 'call'; id: number; operation: string; args: unknown[] }
  | { type: 'cancel'; id: number }
  | { type: 'close' };

export interface Failure {
  call: string;
  errno?: number;
  text?: string;
}

export type FromChild =
  | { type: 'connected'; address: string }
  | ({ type: 'unconnected' } & Failure)
  | { type: 'answer'; id: number; value: unknown }
  | { type: 'progress'; id: number; done: number; total: number }
  | ({ type: 'failure'; id: number } & Failure);
