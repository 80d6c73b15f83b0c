import { type Call, M2Error, natsInbox, serviceNames } from '@m2/contracts';
import type { Answer } from './bus.js';

const inboxes = serviceNames.map((name) => `${natsInbox(name)}.`);

/**
 * Whether an answer goes to somebody who asked. The server lets us answer wherever a message says, and so would let us answer to JetStream's
 * API, which would take the answer for an order.
 */
export const isInbox = (reply: string | undefined): boolean =>
  reply !== undefined && inboxes.some((inbox) => reply.startsWith(inbox));

/** An answer, encoded. One that is too large for a message, or that is no JSON, is an error with a code, and `problem` says what was wrong. */
export function fit(
  call: Call,
  answer: Answer,
  maxBytes: number,
): { answer: Answer; payload: string; problem?: unknown } {
  try {
    const payload = JSON.stringify(answer);
    const bytes = Buffer.byteLength(payload);
    if (bytes <= maxBytes) return { answer, payload };
    throw new M2Error(
      'request.answer_too_large',
      `The answer to ${call.subject} has ${bytes} bytes, and a message may have ${maxBytes}`,
    );
  } catch (problem) {
    const refusal: Answer = { ok: false, error: M2Error.from(problem).toValue() };
    return { answer: refusal, payload: JSON.stringify(refusal), problem };
  }
}
