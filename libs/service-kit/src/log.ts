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
    destination ?? pino.destination({ fd: 1, sync: false }),
  );
}
