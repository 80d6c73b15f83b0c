/** Runs work with the same key one after the other, and with different keys at the same time. */
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

  /** Resolves when everything that is queued now is done, with or without an error. */
  async settled(): Promise<void> {
    await Promise.all(this.queues.values());
  }
}
