import { type AnyUseCase, M2Error, useCases, type UseCaseName } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Inject, Injectable } from '@nestjs/common';
import { setTimeout as pause } from 'node:timers/promises';
import { v7 as uuidv7 } from 'uuid';

/** A request under a key. The key is the token's own; `asked` is what the key stands for from its first use on. */
export interface KeyedRequest {
  token: string;
  key: string;
  useCase: AnyUseCase;
  asked: unknown;
}

interface Row {
  id: string;
  use_case: UseCaseName;
  request_hash: Buffer;
  reply: Buffer | null;
  ended_at: Date | null;
}

/** A key that is ours until another copy takes it over, with a new fence. */
interface Reserved {
  id: string;
  fence: number;
}

type Work = (id: string, isFirst: boolean) => Promise<unknown>;

const leaseSeconds = 15;
const renewMs = 5_000;
const lookMs = 50;
/** Longer than any request may take. */
const patienceMs = 90_000;

/**
 * Lets a request be sent again without being done again. Its key is reserved before anything is looked up, so that of several copies one
 * works and the others wait for its answer. The reservation is a lease: when this gateway dies, the next copy goes on, under the same
 * identifier, so that what was made already is found and not made twice.
 */
@Injectable()
export class Idempotency {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  /**
   * Runs `work` for the first copy, and answers the others with what came of it. `isFirst`: nobody has worked under the identifier before. What was refused is not kept: the key is free again.
   * Throws M2Error `idempotency.conflict` for another request under the key, `request.deadline` when the first copy takes too long.
   */
  async once(request: KeyedRequest, work: Work): Promise<{ id: string; reply: unknown }> {
    // A request may hold a password, which a plain hash would give away to who can guess.
    const hash = this.kit.secrets.fingerprint(JSON.stringify([request.useCase.name, request.asked]));
    const until = performance.now() + patienceMs;
    for (;;) {
      const reserved = await this.reserve(request, hash);
      // Undefined: another copy has taken over meanwhile, and its answer is the one that counts.
      const done = reserved && (await this.work(reserved, work));
      if (done) return { id: reserved.id, reply: done.reply };
      const [row] = await this.kit.database.query<Row>(
        'SELECT id, use_case, request_hash, reply, ended_at FROM idempotency_keys WHERE token = $1 AND key = $2',
        [request.token, request.key],
      );
      // No row: the other copy was refused just now.
      if (row && isAnother(row, hash)) throw conflict(request.key, row);
      if (row?.ended_at)
        return { id: row.id, reply: row.reply && JSON.parse(this.kit.secrets.open(row.reply, row.id)) };
      if (performance.now() > until)
        throw new M2Error('request.deadline', `The first request with the key "${request.key}" is still under way`);
      await pause(lookMs);
    }
  }

  /** The identifier to work under, when nobody else does. */
  private async reserve({ token, key, useCase }: KeyedRequest, hash: Buffer): Promise<Reserved | undefined> {
    const [row] = await this.kit.database.query<Reserved>(
      `INSERT INTO idempotency_keys AS k (token, key, request_hash, id, use_case, lease_until)
       VALUES ($1, $2, $3, $4, $5, now() + $6 * interval '1 second')
       ON CONFLICT (token, key) DO UPDATE SET lease_until = excluded.lease_until, fence = k.fence + 1
         WHERE k.ended_at IS NULL AND k.lease_until < now() AND k.request_hash = excluded.request_hash
       RETURNING id, fence`,
      [token, key, hash, uuidv7(), useCase.name, leaseSeconds],
    );
    return row;
  }

  private async work(reserved: Reserved, work: Work): Promise<{ reply: unknown } | undefined> {
    const { id, fence } = reserved;
    const renewing = setInterval(() => void this.lease(reserved, leaseSeconds).catch(() => {}), renewMs);
    try {
      const reply = await work(id, fence === 0);
      const ours = await this.kit.database.query(
        `UPDATE idempotency_keys SET ended_at = now(), reply = $3 WHERE id = $1 AND fence = $2 AND ended_at IS NULL RETURNING id`,
        // A reply may hold a secret: a new token's value.
        [id, fence, reply === undefined ? null : this.kit.secrets.seal(JSON.stringify(reply), id)],
      );
      return ours.length > 0 ? { reply } : undefined;
    } catch (error) {
      clearInterval(renewing);
      const ours = await this.letGo(reserved, M2Error.from(error)).catch(() => [{}]);
      // Refused, perhaps for what the copy that took over has made.
      if (ours.length === 0) return undefined;
      throw error;
    } finally {
      clearInterval(renewing);
    }
  }

  /** What failed in between may have been done in part: a copy goes on under the same identifier. What was refused was not done. */
  private letGo(reserved: Reserved, { status }: M2Error): Promise<object[]> {
    if (status >= 500) return this.lease(reserved, 0);
    return this.kit.database.query(
      'DELETE FROM idempotency_keys WHERE id = $1 AND fence = $2 AND ended_at IS NULL RETURNING id',
      [reserved.id, reserved.fence],
    );
  }

  private lease({ id, fence }: Reserved, seconds: number): Promise<object[]> {
    return this.kit.database.query(
      `UPDATE idempotency_keys SET lease_until = now() + $3 * interval '1 second'
       WHERE id = $1 AND fence = $2 AND ended_at IS NULL RETURNING id`,
      [id, fence, seconds],
    );
  }
}

/** What an operation of an earlier version was asked for is not known any more: its key stands for whatever comes. */
const isAnother = ({ request_hash: known }: Row, hash: Buffer) => known.length > 0 && !known.equals(hash);

const conflict = (key: string, { id, use_case: name }: Row): M2Error =>
  new M2Error('idempotency.conflict', `The key "${key}" was used for another request`, {
    useCase: name,
    ...(useCases[name]?.kind === 'operation' && { operation: id }),
  });
