import type { Call, InputOf, ReplyOf } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import { v7 as uuidv7 } from 'uuid';

const deadlineMs = 10_000;
/** A BMC is slow, and a storage is large; who asks for their state waits for it. */
const commandDeadlineMs = 60_000;

/** A query on behalf of a request. */
export const ask = <C extends Call>(kit: Kit, call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs });

/** A query that looks at a whole storage. */
export const askAtLength = <C extends Call>(kit: Kit, call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs: commandDeadlineMs });

/** A command that is no operation, because it changes one service only. */
export const tell = <C extends Call>(kit: Kit, call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs: commandDeadlineMs, effect: `direct/${uuidv7()}`, fence: 0 });
