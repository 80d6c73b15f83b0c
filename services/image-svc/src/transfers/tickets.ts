import { createHash, randomBytes } from 'node:crypto';

/** Longer than the gateway needs between its query and its request, and too short to be passed on. */
const lifetimeMs = 60_000;

/** Tickets: 256 random bits each, for one request. */
export class Tickets<Grant> {
  private readonly granted = new Map<string, { grant: Grant; until: number }>();

  /** `now` returns milliseconds of a monotonic clock. */
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

  /** What a ticket allows. It can be used once. */
  take(ticket: string): Grant | undefined {
    const key = keyOf(ticket);
    const found = this.granted.get(key);
    this.granted.delete(key);
    return found && found.until > this.now() ? found.grant : undefined;
  }
}

/** A lookup may take longer the more characters match. By hash, that time tells nothing about the ticket. */
function keyOf(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64');
}
