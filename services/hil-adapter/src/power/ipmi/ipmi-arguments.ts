import { isIP } from 'node:net';
import { PowerError, type BmcAddress } from '../power.port.js';

/** RFC 1123 host name; it cannot start with a dash, so it is never taken for an option. */
const hostName = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\.?$/i;
/** IPMI 2.0 section 22.28: 16 bytes. */
const userName = /^(?!-)[\x20-\x7e]{1,16}$/;
/** IPMI 2.0 section 22.30: 20 bytes. An empty one would make ipmitool ask on a terminal. */
const secret = /^[\x20-\x7e]{1,20}$/;
/** Suite 0 has no authentication at all: anybody may power the node. */
const isSuite = (suite: number) => Number.isInteger(suite) && suite >= 1 && suite <= 17;

function refuse(field: string, rule: string): never {
  throw new PowerError('request.invalid', `The BMC's ${field} ${rule}. Correct it in the node's registration.`);
}

/** Refuses (`request.invalid`) an address with a value that ipmitool could misread. */
export function checkBmc(bmc: BmcAddress): void {
  const { address, port } = bmc;
  if (isIP(address) === 0 && (address.length > 253 || !hostName.test(address))) {
    refuse('address', 'must be an IP address or a host name');
  }
  if (!Number.isInteger(port) || port < 1 || port > 65_535) refuse('port', 'must be a number from 1 to 65535');
  if (!userName.test(bmc.user)) refuse('user', 'must be 1 to 16 printable ASCII characters, no dash first');
  if (!secret.test(bmc.password)) refuse('password', 'must be 1 to 20 printable ASCII characters');
  if (bmc.cipherSuites.length === 0 || !bmc.cipherSuites.every(isSuite)) {
    refuse('cipher suites', 'must be a list of numbers from 1 to 17');
  }
}

/**
 * How often ipmitool repeats an unanswered request. Measured with ipmitool 1.8.19 and `-N 1`: with `-R n` it gives up on a BMC that is not
 * there after n·(n+1) seconds. So: as many tries as fit well into the remaining time.
 */
export function retriesWithin(milliseconds: number): number {
  return [4, 3, 2].find((tries) => tries * (tries + 1) * 1000 < milliseconds * 0.8) ?? 1;
}

/**
 * One ipmitool that opens one session and executes the commands that it reads from `fifo`, one per line.
 *
 * - `exec` of a FIFO and not `shell`: at the end of its input `shell` loops for ever, so our death would leave a process that
 *   uses a whole core; `exec` logs out and ends.
 * - `stdbuf -oL`, because ipmitool buffers its answers until its end when its output is a pipe.
 * - `-v`, because without it a wrong password, a wrong cipher suite and a dead BMC all give the same message.
 * - `-C`, because without it ipmitool asks for the BMC's suites first, which takes 10 seconds on some.
 */
export function ipmitoolCommand(
  bmc: BmcAddress,
  suite: number,
  tries: number,
  fifo: string,
): { file: string; args: string[] } {
  const connection = ['-I', 'lanplus', '-H', bmc.address, '-p', String(bmc.port), '-U', bmc.user, '-E'];
  const patience = ['-C', String(suite), '-N', '1', '-R', String(tries)];
  return { file: 'stdbuf', args: ['-oL', 'ipmitool', '-v', ...connection, ...patience, 'exec', fifo] };
}

/**
 * The password goes by environment (`-E`), which only this user and root can read, and not by a file (`-f`): a file would stay on disk when
 * we are killed. The rest is what ipmitool needs, without our own environment. `home`: see ipmi-home.ts.
 */
export function ipmitoolEnvironment(bmc: BmcAddress, home: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'] ?? '/usr/bin:/bin',
    HOME: home,
    LC_ALL: 'C',
    IPMI_PASSWORD: bmc.password,
  };
}
