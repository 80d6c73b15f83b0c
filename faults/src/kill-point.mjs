/**
 * Ends its own process, or the one that `victim` names (or the message's field of that name), by SIGKILL (or sends it `signal`), at one exact
 * point. A service gets it by `NODE_OPTIONS=--import`, so the service itself knows nothing of it. `FAULT_ORDER` names a file:
 * `{ channel, at: { field: value, … }, victim?, signal?, afterMs? }`. At the first message of that diagnostics channel that has all these values, the file
 * is renamed (so that the next life of the service goes on), and the process is gone before the publisher's next statement, or `afterMs` later.
 * `{ channel, record }` kills nobody: it appends the messages to the file `record`, one a line.
 */
import { subscribe } from 'node:diagnostics_channel';
import { appendFileSync, readFileSync, renameSync } from 'node:fs';

const file = process.env['FAULT_ORDER'] ?? '';

/** @param {string} channel */
const watch = (channel) =>
  subscribe(channel, (message) => {
    const order = read();
    if (order?.channel !== channel) return;
    if (order.record) return appendFileSync(order.record, `${JSON.stringify(message)}\n`);
    if (!Object.entries(order.at).every(([field, value]) => message[field] === value)) return;
    renameSync(file, `${file}.done`);
    const victim = typeof order.victim === 'string' ? message[order.victim] : order.victim;
    const strike = () => process.kill(victim ?? process.pid, order.signal ?? 'SIGKILL');
    if (order.afterMs) setTimeout(strike, order.afterMs);
    else strike();
  });

function read() {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // Nothing is ordered now.
    return undefined;
  }
}

watch('m2:operation');
watch('m2:operation:step');
watch('m2:command');
watch('m2:rbd');
