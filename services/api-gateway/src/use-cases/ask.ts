import type { Call, InputOf, ReplyOf } from '@m2/contracts';
import type { Kit } from '@m2/service-kit';

const deadlineMs = 10_000;
/** A BMC is slow, and a storage is large; who asks for their state waits for it. */
const commandDeadlineMs = 60_000;

/** A query on behalf of a request. */
export const ask = <C extends Call>(kit: Kit, call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs });

/** A query that looks at a whole storage. */
export const askAtLength = <C extends Call>(kit: Kit, call: C, input: InputOf<C>): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs: commandDeadlineMs });

/** A command that is no operation, because it changes one service only. `id` is the request's: repeated, it is done once. */
export const tell = <C extends Call>(
  kit: Kit,
  { id }: { id: string },
  call: C,
  input: InputOf<C>,
): Promise<ReplyOf<C>> =>
  kit.bus.request(call, input, { deadlineMs: commandDeadlineMs, effect: `direct/${id}`, fence: 0 });
