/** What the parent and its child say to each other, as `process.send` messages in the advanced serialization. */

/** The first message. It travels here and not in the arguments, which every user of the machine can read. */
export interface Setup {
  conf: string;
  user: string;
  connectSeconds: number;
  monSeconds: number;
  osdSeconds: number;
  /** Addresses of children that were killed: whatever they still have in flight must not land after we have begun. */
  fence: string[];
}

export type ToChild =
  | { type: 'setup'; setup: Setup }
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
