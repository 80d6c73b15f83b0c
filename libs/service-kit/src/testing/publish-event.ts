import type { DataOf, EventContract } from '@m2/contracts';
import { headers } from '@nats-io/transport-node';
import { v7 as uuidv7 } from 'uuid';
import type { Bus } from '../bus.js';
import { ensureEventStream } from '../event-stream.js';

/** Publishes an event as the service that owns it does. Makes the stream when it is missing. */
export async function publishEvent<E extends EventContract>(bus: Bus, event: E, data: DataOf<E>): Promise<void> {
  await ensureEventStream(bus);
  const meta = headers();
  meta.set('ce-id', uuidv7());
  meta.set('ce-type', event.type);
  meta.set('ce-time', new Date().toISOString());
  await bus.js.publish(event.subject, JSON.stringify(data), { headers: meta });
}
