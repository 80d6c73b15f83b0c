import type { LongWork } from '../../storage.port.js';

/** Tells a caller how far its volume is, in bytes of the volume, never fewer than before. */
export class Progress {
  private told = -1;

  constructor(
    private readonly work: LongWork,
    private readonly sizeBytes: number,
  ) {}

  /** For a step that takes the volume from one fraction to another and counts in units of its own. */
  step(from: number, to: number): (done: number, total: number) => void {
    return (done, total) => {
      const now = Math.floor(this.sizeBytes * (from + (to - from) * (total > 0 ? done / total : 1)));
      // The last byte is told when the volume is there, and not when its last block is.
      if (now > this.told && now < this.sizeBytes) this.work.onProgress?.((this.told = now), this.sizeBytes);
    };
  }

  end(): void {
    this.work.onProgress?.(this.sizeBytes, this.sizeBytes);
  }
}
