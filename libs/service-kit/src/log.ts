import { context, trace } from '@opentelemetry/api';
import { pino, type Logger } from 'pino';

export type { Logger } from 'pino';

/** Fields with these names may hold a secret: they are blanked at the top level and one level down, in every line. */
const secretNames = ['password', 'secret', 'token', 'authorization', 'chap', 'secretKey', 'phoneHome'];
const redact = secretNames.flatMap((name) => [name, `*.${name}`]);

export function makeLog(service: string, level: string, destination?: NodeJS.WritableStream): Logger {
  return pino(
    {
      level,
      base: { service },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: redact, censor: '[redacted]' },
      mixin: () => {
        const span = trace.getSpanContext(context.active());
        return span ? { traceId: span.traceId, spanId: span.spanId } : {};
      },
    },
    destination ?? standardOutput(),
  );
}

/** Lines that wait in memory while they cannot be written; what comes then is dropped. */
const waitingBytes = 1_048_576;

/**
 * What cannot be written, because the disk is full, is no reason to end, nor to wait. The destination would do both: an error that nobody hears ends
 * the process, and its last flush tries again for ever. It writes what waits with the next line for which there is room.
 */
function standardOutput() {
  const output = pino.destination({ fd: 1, sync: false, maxLength: waitingBytes });
  const flush = output.flushSync.bind(output);
  output.on('error', () => (output.flushSync = () => {}));
  output.on('write', () => (output.flushSync = flush));
  return output;
}
