import { eventStream } from '@m2/contracts';
import {
  JetStreamApiCodes,
  JetStreamApiError,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
} from '@nats-io/jetstream';
import type { Bus } from './bus.js';

/** How much the stream keeps of what is on its way. What it drops is in the outboxes, and in what the consumers made of it. */
export interface StreamLimits {
  /** On how many servers of a cluster it is kept: 1, 3 or 5. */
  replicas: number;
  /** The oldest events go when they would be more. */
  maxBytes: number;
  maxAgeHours: number;
}

export const defaultLimits: StreamLimits = { replicas: 1, maxBytes: 512 * 1024 * 1024, maxAgeHours: 7 * 24 };

/**
 * Makes the stream, or changes its limits where they are others. Throws when JetStream does not answer, or refuses to make it; what it refuses
 * to change is told to `onRefused`, since the stream works as it is.
 */
export async function ensureEventStream(
  bus: Bus,
  limits: StreamLimits = defaultLimits,
  onRefused: (error: unknown) => void = () => {},
): Promise<void> {
  const manager = await jetstreamManager(bus.connection, { checkAPI: false });
  const changeable = {
    num_replicas: limits.replicas,
    max_bytes: limits.maxBytes,
    max_age: limits.maxAgeHours * 3_600 * 1e9,
    // JetStream acknowledges to whatever subject a publisher named, also to one of its own API: then the acknowledgement would be taken
    // for an order to remove what the stream holds.
    deny_purge: true,
    deny_delete: true,
  };
  const stream = await manager.streams.info(eventStream).catch((error: unknown) => {
    if (error instanceof JetStreamApiError && error.code === JetStreamApiCodes.StreamNotFound) return undefined;
    throw error;
  });
  if (!stream) {
    await manager.streams.add({
      name: eventStream,
      subjects: ['m2.evt.>'],
      retention: RetentionPolicy.Limits,
      storage: StorageType.File,
      duplicate_window: 10 * 60 * 1e9,
      ...changeable,
    });
    return;
  }
  const isAsWanted = Object.entries(changeable).every(
    ([key, value]) => stream.config[key as keyof typeof changeable] === value,
  );
  if (!isAsWanted) await manager.streams.update(eventStream, changeable).catch(onRefused);
}
