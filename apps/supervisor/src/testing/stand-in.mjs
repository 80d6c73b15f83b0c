/**
 * Stands in for a service in the supervisor's tests: answers /readyz, and writes down when it starts and when it was asked to stop.
 * STAND_IN: `exit78` and `exit1` end at once, `unready` is never ready, `loses-bmc` is not for a while, `alarmed` has an alarm, `stubborn`
 * ignores SIGTERM.
 */
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';

const name = process.env.M2_DATABASE_URL.match(/m2_(\w+)@/)[1];
const note = (what) => appendFileSync(process.env.STAND_IN_JOURNAL, `${name} ${what}\n`);
const mode = process.env.STAND_IN;
if (mode === 'exit78') {
  process.stderr.write('The configuration is not complete: M2_NONSENSE is not set\n');
  process.exit(78);
}
if (mode === 'exit1') {
  process.stderr.write('something is broken\n');
  process.exit(1);
}
let asked = 0;
const answers = {
  unready: () => [503, { parts: { tgtd: 'does not answer' } }],
  'loses-bmc': () => [asked > 1 && asked < 6 ? 503 : 200, { parts: { nats: 'ok', bmc: 'does not answer' } }],
  alarmed: () => [200, { alarms: { events: 'events have waited for 61 s' } }],
};
const server = createServer((_, response) => {
  asked += 1;
  const [status, body] = answers[mode]?.() ?? [200, {}];
  response.writeHead(status).end(JSON.stringify(body));
});
const [host, port] = process.env.M2_OPS_LISTEN.split(':');
server.listen(Number(port), host, () => note('start'));
process.on('SIGTERM', () => {
  note('stop');
  if (mode !== 'stubborn') process.exit(0);
});
