import type { LongWork } from '../../storage.port.js';

/** Reports progress in bytes of the volume, never fewer than before. */
export class Progress {
  private told = -1;

  constructor(
    private readonly work: LongWork,
    private readonly sizeBytes: number,
  ) {}

  /** For a step between two fractions of the volume that counts in its own units. */
  step(from: number, to: number): (done: number, total: number) => void {
    return (done, total) => {
      const now = Math.floor(this.sizeBytes * (from + (to - from) * (total > 0 ? done / total : 1)));
      // 100 % is reported when the volume is complete, and not when its last block is.
      if (now > this.told && now < this.sizeBytes) this.work.onProgress?.((this.told = now), this.sizeBytes);
    };
  }

  end(): void {
    this.work.onProgress?.(this.sizeBytes, this.sizeBytes);
  }
}
