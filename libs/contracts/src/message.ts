import type { z } from 'zod';

/** The services, by the short name that stands in subjects, schemas and roles. */
export const serviceNames = ['gateway', 'image', 'iscsi', 'boot', 'hil'] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface Call<Req extends z.ZodType = z.ZodType, Res extends z.ZodType = z.ZodType> {
  kind: 'command' | 'query';
  service: ServiceName;
  subject: string;
  summary: string;
  request: Req;
  reply: Res;
  /** The services that may send it, enforced by the NATS server's permissions. */
  callers: readonly ServiceName[];
}

export interface EventContract<Data extends z.ZodType = z.ZodType> {
  kind: 'event';
  service: ServiceName;
  /** CloudEvents `type`, and the subject below `m2.evt.`. */
  type: string;
  subject: string;
  summary: string;
  data: Data;
}

export type RequestOf<C extends Call> = z.infer<C['request']>;
export type InputOf<C extends Call> = z.input<C['request']>;
export type ReplyOf<C extends Call> = z.infer<C['reply']>;
export type DataOf<E extends EventContract> = z.infer<E['data']>;

const call =
  (kind: 'command' | 'query', prefix: 'cmd' | 'qry') =>
  <Req extends z.ZodType, Res extends z.ZodType>(
    path: `${ServiceName}.${string}.${string}`,
    summary: string,
    request: Req,
    reply: Res,
    callers: readonly ServiceName[] = ['gateway'],
  ): Call<Req, Res> => ({
    kind,
    service: path.split('.')[0] as ServiceName,
    subject: `m2.${prefix}.${path}`,
    summary,
    request,
    reply,
    callers,
  });

/** A command changes something; it carries an effect key and a fence, and is safe to send twice. */
export const command = call('command', 'cmd');
/** A query changes nothing. */
export const query = call('query', 'qry');

export const event = <Data extends z.ZodType>(
  type: `${ServiceName}.${string}.${string}`,
  summary: string,
  data: Data,
): EventContract<Data> => ({
  kind: 'event',
  service: type.split('.')[0] as ServiceName,
  type,
  subject: `m2.evt.${type}`,
  summary,
  data,
});

/** Headers of a request between services (`traceparent` is W3C Trace Context's). */
export const headers = {
  /** `operation/step/do|undo|skip`, or `direct/<uuid>` for a command that belongs to no operation. */
  effect: 'm2-effect',
  /** Grows with every runner that takes the operation over; a service refuses an older one. */
  fence: 'm2-fence',
  /** Milliseconds from the sending until nobody waits for the answer: a time span, because hosts' clocks differ. */
  remaining: 'm2-remaining',
  /** The same as a moment of the sender's clock, in milliseconds since the epoch; for services of the version before, which know no other. */
  deadline: 'm2-deadline',
  project: 'm2-project',
  traceparent: 'traceparent',
} as const;

export const eventStream = 'M2_EVENTS';
