export { Bus, type RequestOptions } from './bus.js';
export { type BaseConfig, baseConfig, ConfigError, listenAddress, loadConfig } from './config.js';
export {
  Database,
  isConnectionError,
  type MigrationClass,
  type Sql,
  translated,
  violatesReference,
  violatesUnique,
} from './database.js';
export type { Effect, Emit } from './effects.js';
export { Answers, Consumes, Handles } from './handlers.js';
export { defaultLimits, type StreamLimits } from './event-stream.js';
export type { ReceivedEvent } from './received-event.js';
export type { CallContext, EventContext } from './message-context.js';
export type { Lease, Leases } from './leases.js';
export { type Logger, makeLog } from './log.js';
export { NestLog } from './nest-log.js';
export { Periodic } from './periodic.js';
export { newestFirst, pageWithin } from './paging.js';
export type { Alarm, ReadinessCheck } from './ops-server.js';
export { allExpiring, deleteExpired, type Expiring } from './retention.js';
export { SecretBox } from './secret-box.js';
export { type Kit, KIT, runService, type ServiceDefinition } from './service.js';
export { takeTurn } from './turns.js';
export { currentTraceId, currentTraceparent, contextOf, inSpan, meter, SpanKind } from './telemetry.js';
