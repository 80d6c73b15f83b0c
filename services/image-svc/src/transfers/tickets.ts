import { createHash, randomBytes } from 'node:crypto';

/** Longer than the gateway needs between its question and its request, and too short to be passed around. */
const lifetimeMs = 60_000;

/** Tickets: 256 random bits each, good for one request. */
export class Tickets<Grant> {
  private readonly granted = new Map<string, { grant: Grant; until: number }>();

  /** `now` is in milliseconds of a clock that only runs forward. */
  constructor(private readonly now: () => number = () => performance.now()) {}

  issue(grant: Grant): string {
    // They expire in the order in which they were issued.
    for (const [key, { until }] of this.granted) {
      if (until > this.now()) break;
      this.granted.delete(key);
    }
    const ticket = randomBytes(32).toString('base64url');
    this.granted.set(keyOf(ticket), { grant, until: this.now() + lifetimeMs });
    return ticket;
  }

  /** What a ticket is good for, once. */
  take(ticket: string): Grant | undefined {
    const key = keyOf(ticket);
    const found = this.granted.get(key);
    this.granted.delete(key);
    return found && found.until > this.now() ? found.grant : undefined;
  }
}

/** A look-up takes as long as the guess is alike; alike in its hash tells nothing of the ticket. */
function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64');
}
