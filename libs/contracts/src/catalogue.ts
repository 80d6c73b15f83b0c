import * as boot from './boot.js';
import * as disk from './disk.js';
import * as gateway from './gateway.js';
import * as hil from './hil.js';
import * as image from './image.js';
import * as iscsi from './iscsi.js';
import * as storage from './storage.js';
import type { Call, EventContract, ServiceName } from './message.js';

const everything: unknown[] = [gateway, image, disk, storage, iscsi, boot, hil].flatMap((contracts) =>
  Object.values(contracts),
);

const isOf = (value: unknown, kinds: string[]) =>
  typeof value === 'object' &&
  value !== null &&
  'kind' in value &&
  kinds.includes(String(value.kind)) &&
  'subject' in value;

/** Every command and query there is. */
export const calls = everything.filter((value): value is Call => isOf(value, ['command', 'query']));
/** Every event there is. */
export const events = everything.filter((value): value is EventContract => isOf(value, ['event']));

export const callsOf = (service: ServiceName): Call[] => calls.filter((call) => call.service === service);
export const eventsOf = (service: ServiceName): EventContract[] => events.filter((event) => event.service === service);
