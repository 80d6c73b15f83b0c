import { createSocket } from 'node:dgram';
import { setTimeout as delay } from 'node:timers/promises';

/** RMCP header, IPMI 1.5 header without a session, "Get Channel Authentication Capabilities" (IPMI 2.0, 13.1, 22.13). */
const QUESTION = ['0600ff07', '00000000000000000009', '2018c88100380e0435'].join('');

/** Waits until a BMC answers at all, which needs no account; throws after `deadlineMs`. */
export async function untilBmcAnswers(address: string, port: number, deadlineMs: number): Promise<void> {
  const socket = createSocket('udp4');
  const answer = new Promise<true>((resolve) => socket.once('message', () => resolve(true)));
  // A port that is not bound yet refuses the packet: wait until that is over.
  socket.on('error', () => {});
  const deadline = performance.now() + deadlineMs;
  try {
    do {
      if (performance.now() > deadline) throw new Error(`No BMC answers at ${address}:${port}`);
      socket.send(Buffer.from(QUESTION, 'hex'), port, address);
    } while (!(await Promise.race([answer, delay(20, false)])));
  } finally {
    socket.close();
  }
}

/** `count` different UDP ports that are free on the loopback interface. */
export async function freeUdpPorts(count: number): Promise<number[]> {
  // All are bound before the first is let go: the kernel would hand out the same one again.
  const sockets = Array.from({ length: count }, () => createSocket('udp4'));
  try {
    await Promise.all(
      sockets.map(
        (socket) =>
          new Promise<void>((resolve, reject) => {
            socket.once('error', reject);
            socket.bind(0, '127.0.0.1', resolve);
          }),
      ),
    );
    return sockets.map((socket) => socket.address().port);
  } finally {
    for (const socket of sockets) socket.close();
  }
}
