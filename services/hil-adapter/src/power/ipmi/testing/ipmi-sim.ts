import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { TestNode } from '../../power.conformance.js';

const chassis = fileURLToPath(new URL('chassis.sh', import.meta.url));

/** A port cannot be reserved for ipmi_sim: a free one is found and released, and another one is tried when somebody took it meanwhile. */
async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}

const lanConf = (dir: string, port: number) => `name "m2-test"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 ${port}
  priv_limit admin
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "sh '${chassis}' '${dir}'"
user 2 true "admin" "s3cret-Pa55" admin 10 none md2 md5 straight
`;

const emulation = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
sel_enable 0x20 1000 0x0a
`;

/** A real `ipmi_sim` (package openipmi) on loopback, with a chassis that is a few files. It knows the cipher suites 1 to 3. */
export async function startIpmiSim(): Promise<TestNode> {
  const dir = await mkdtemp(join(tmpdir(), 'm2-ipmi-sim-'));
  const file = (name: string) => join(dir, name);
  const read = async (name: string) => (await readFile(file(name), 'utf8')).trim();
  await mkdir(file('state'));
  await writeFile(file('power'), '0\n');
  await writeFile(file('boot'), 'none\n');
  await writeFile(file('mode'), 'obeys\n');
  await writeFile(file('journal'), '');
  await writeFile(file('bmc.emu'), emulation);
  for (let tries = 3; ; tries -= 1) {
    const port = await freeUdpPort();
    await writeFile(file('lan.conf'), lanConf(dir, port));
    const args = ['-c', file('lan.conf'), '-f', file('bmc.emu'), '-s', file('state'), '-n'];
    const child = spawn('ipmi_sim', args, { stdio: 'ignore' });
    await once(child, 'spawn');
    const exited = once(child, 'exit');
    const ended = () => child.exitCode !== null || child.signalCode !== null;
    const bmc = {
      driver: 'ipmi' as const,
      address: '127.0.0.1',
      port,
      user: 'admin',
      password: 's3cret-Pa55',
      cipherSuites: [3],
    };
    if (await answers(port, ended)) {
      return {
        bmc,
        power: async () => ((await read('power')) === '1' ? 'on' : 'off'),
        setPower: (power) => writeFile(file('power'), power === 'on' ? '1\n' : '0\n'),
        nextBoot: () => read('boot'),
        journal: async () => (await read('journal')).split('\n').filter((line) => line !== ''),
        behave: (behaviour) => writeFile(file('mode'), `${behaviour}\n`),
        hang: () => child.kill('SIGSTOP'),
        wake: () => child.kill('SIGCONT'),
        stop: async () => {
          child.kill('SIGKILL');
          await exited;
          await rm(dir, { recursive: true });
        },
      };
    }
    child.kill('SIGKILL');
    await exited;
    if (tries === 0) throw new Error('ipmi_sim does not start: is the package openipmi installed?');
  }
}

/** RMCP presence ping (ASF 2.0 section 3.2.4.2) until the simulator answers; false when it ended, or after 10 seconds. */
async function answers(port: number, ended: () => boolean): Promise<boolean> {
  const ping = Buffer.from('0600ff06000011be80000000', 'hex');
  const socket = createSocket('udp4');
  const pong = new AbortController();
  socket.on('message', () => pong.abort());
  for (const until = performance.now() + 10_000; !pong.signal.aborted && !ended() && performance.now() < until;) {
    socket.send(ping, port, '127.0.0.1');
    await pause(20, undefined, { signal: pong.signal }).catch(() => {});
  }
  socket.close();
  return pong.signal.aborted;
}
