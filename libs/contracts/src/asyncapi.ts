import { z } from 'zod';
import { calls, events } from './catalogue.js';
import type { Call, EventContract } from './message.js';

type Json = Record<string, unknown>;

const schemaOf = (schema: z.ZodType, io: 'input' | 'output'): Json =>
  z.toJSONSchema(schema, { io, unrepresentable: 'any', target: 'draft-7' }) as Json;

const keyOf = (subject: string) => subject.replaceAll(/[^A-Za-z0-9]/g, '_');

/** CloudEvents 1.0 attributes, binary mode: they travel as NATS headers. */
const cloudEventHeaders = {
  type: 'object',
  required: ['ce-specversion', 'ce-id', 'ce-source', 'ce-type', 'ce-time', 'Nats-Msg-Id'],
  properties: Object.fromEntries(
    [
      'ce-specversion',
      'ce-id',
      'ce-source',
      'ce-type',
      'ce-time',
      'ce-subject',
      'ce-project',
      'ce-traceparent',
      'Nats-Msg-Id',
    ].map((name) => [name, { type: 'string' }]),
  ),
};

/** Commands, queries and events on NATS as an AsyncAPI 3.0 document, seen from the service that owns them. */
export function asyncApi(): Json {
  const channels: Json = {};
  const operations: Json = {};
  for (const call of calls) describeCall(call, channels, operations);
  for (const event of events) describeEvent(event, channels, operations);
  return {
    asyncapi: '3.0.0',
    info: { title: 'M2 messages', version: '1', license: { name: 'Apache-2.0' } },
    defaultContentType: 'application/json',
    channels,
    operations,
  };
}

function describeCall(call: Call, channels: Json, operations: Json): void {
  const key = keyOf(call.subject);
  channels[key] = {
    address: call.subject,
    description: call.summary,
    messages: {
      request: { name: `${call.subject} request`, payload: schemaOf(call.request, 'input') },
      reply: { name: `${call.subject} reply`, payload: schemaOf(call.reply, 'output') },
    },
  };
  const channel = { $ref: `#/channels/${key}` };
  operations[key] = {
    action: 'receive',
    summary: call.summary,
    channel,
    messages: [{ $ref: `#/channels/${key}/messages/request` }],
    reply: { channel, messages: [{ $ref: `#/channels/${key}/messages/reply` }] },
  };
}

function describeEvent(event: EventContract, channels: Json, operations: Json): void {
  const key = keyOf(event.subject);
  channels[key] = {
    address: event.subject,
    description: event.summary,
    messages: { event: { name: event.type, headers: cloudEventHeaders, payload: schemaOf(event.data, 'output') } },
  };
  operations[key] = { action: 'send', summary: event.summary, channel: { $ref: `#/channels/${key}` } };
}
