/** Runs works of one key one after the other, and those of different keys side by side. */
export class Turns {
  /** The end of the queue of each key. */
  private readonly queues = new Map<string, Promise<unknown>>();

  async take<Result>(key: string, work: () => Promise<Result>): Promise<Result> {
    const turn = (this.queues.get(key) ?? Promise.resolve()).then(work);
    const settled = turn.catch(() => undefined);
    this.queues.set(key, settled);
    try {
      return await turn;
    } finally {
      if (this.queues.get(key) === settled) this.queues.delete(key);
    }
  }

  /** Resolves when all that was under way is done, well or not. */
  async settled(): Promise<void> {
    await Promise.all(this.queues.values());
  }
}
