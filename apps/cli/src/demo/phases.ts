export interface Phase {
  name: string;
  seconds: number;
}

/** A stopwatch for the parts of a long piece of work. */
export class Phases {
  readonly list: Phase[] = [];

  constructor(private readonly onStart: (name: string) => void) {}

  /** Runs `work` and keeps how long it took; a part that failed is kept too. */
  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    this.onStart(name);
    const started = performance.now();
    try {
      return await work();
    } finally {
      this.list.push({ name, seconds: Math.round(performance.now() - started) / 1000 });
    }
  }
}
