import { connect } from 'node:net';
import { TargetError } from '../target.port.js';
import { decodeReply, encodeRequest, replyError, type TgtReply, type TgtRequest } from './tgt-protocol.js';

/** Opening a LUN waits for the medium; everything else takes less than a millisecond. */
const DEADLINE_MS = 10_000;

/** Talks to one tgtd over its management socket, without a process and without state: one connection per request. */
export class TgtClient {
  constructor(
    readonly socketPath: string,
    private readonly deadlineMs = DEADLINE_MS,
  ) {}

  /**
   * Sends one request and returns the reply's text. Throws `target.unreachable` when there is no answer in time (the request may still be
   * executed), and else the code of tgtd's own error.
   */
  async call(request: TgtRequest): Promise<string> {
    const { error, text } = await this.exchange(encodeRequest(request));
    if (error !== 0) throw replyError(request, error);
    return text;
  }

  /** Like `call`, for a thing that may be gone already: returns whether it was there. */
  async callIfThere(request: TgtRequest): Promise<boolean> {
    return this.callUnless('target.not_found', request);
  }

  /** Like `call`, for a thing that may exist already: returns whether it was created now. */
  async callIfNew(request: TgtRequest): Promise<boolean> {
    return this.callUnless('target.exists', request);
  }

  private async callUnless(code: string, request: TgtRequest): Promise<boolean> {
    try {
      await this.call(request);
      return true;
    } catch (error) {
      if (error instanceof TargetError && error.code === code) return false;
      throw error;
    }
  }

  private exchange(bytes: Buffer): Promise<TgtReply> {
    const { promise, resolve, reject } = Promise.withResolvers<TgtReply>();
    const chunks: Buffer[] = [];
    const unreachable = (why: string, cause?: Error) =>
      reject(new TargetError('target.unreachable', `tgtd ${why}; it is started again when it is needed`, { cause }));
    const socket = connect(this.socketPath);
    const timer = setTimeout(() => {
      unreachable(`did not answer within ${this.deadlineMs} ms`);
      socket.destroy();
    }, this.deadlineMs);
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', (error) => unreachable('does not answer on its management socket', error));
    // tgtd closes the connection after each reply.
    socket.on('close', () => {
      clearTimeout(timer);
      const reply = decodeReply(Buffer.concat(chunks));
      if (reply) resolve(reply);
      else unreachable('went away before it answered');
    });
    // In one piece: tgtd waits for the rest of a request for ever. No end(): tgtd does not read while it answers.
    socket.write(bytes);
    return promise;
  }
}
