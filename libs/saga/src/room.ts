/** How many operations a replica works on at a time, in all and of one project. */
export interface Limits {
  concurrency: number;
  projectConcurrency: number;
}

/** Counts what takes room, so that no project takes all of it. */
export class Room {
  /** The projects of operations that are being accepted. */
  private readonly accepting: string[] = [];

  /** `working`: the projects of the operations that take room, each as often as it has some. */
  constructor(
    private readonly limits: Limits,
    private readonly working: () => string[],
  ) {}

  get free(): number {
    return this.limits.concurrency - this.taken().length;
  }

  isThereFor(project: string): boolean {
    return this.free > 0 && (this.byProject()[project] ?? 0) < this.limits.projectConcurrency;
  }

  byProject(): Record<string, number> {
    const count: Record<string, number> = {};
    for (const project of this.taken()) count[project] = (count[project] ?? 0) + 1;
    return count;
  }

  /** It takes its room before it is on record: of many that come at once, each would find the same room. */
  async during<T>(project: string, work: () => Promise<T>): Promise<T> {
    this.accepting.push(project);
    try {
      return await work();
    } finally {
      this.accepting.splice(this.accepting.indexOf(project), 1);
    }
  }

  private taken(): string[] {
    return [...this.working(), ...this.accepting];
  }
}
