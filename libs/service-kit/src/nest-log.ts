import type { LoggerService } from '@nestjs/common';
import type { Logger } from './log.js';

/** Nest's messages in our log. What it does at start is at level debug. */
export class NestLog implements LoggerService {
  constructor(private readonly target: Logger) {}

  log(message: unknown, context?: unknown): void {
    this.target.debug({ nest: context }, String(message));
  }

  warn(message: unknown, context?: unknown): void {
    this.target.warn({ nest: context }, String(message));
  }

  error(message: unknown, stack?: unknown, context?: unknown): void {
    this.target.error({ nest: context, stack }, String(message));
  }
}
