const beatMs = 250;
/** Less than this is a busy event loop. */
const noticedMs = 1_000;

/**
 * Notices that the process stood still (SIGSTOP, a frozen container). What it reads right after that has waited in a buffer, and nobody
 * counted the time: a command in it may have been given up by its sender.
 */
export class Standstill {
  private beatAt = performance.now();
  private lostMs = 0;
  private freshFrom = 0;
  private readonly timer = setInterval(() => this.beat(), beatMs).unref();

  /** For how long a message that is read now may have waited, in milliseconds. */
  get waitedMs(): number {
    // The beat that will notice it may come only after the message.
    const gapMs = performance.now() - this.beatAt - beatMs;
    if (gapMs > noticedMs) return gapMs;
    return performance.now() < this.freshFrom ? this.lostMs : 0;
  }

  stop(): void {
    clearInterval(this.timer);
  }

  private beat(): void {
    const now = performance.now();
    const gapMs = now - this.beatAt - beatMs;
    this.beatAt = now;
    if (gapMs <= noticedMs) return;
    this.lostMs = gapMs;
    // What waited is read within this time.
    this.freshFrom = now + noticedMs;
  }
}
