import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';

/**
 * A BMC that answers IPMI over LAN (IPMI 2.0, cipher suite 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128) and has no machine: its power is a
 * variable. It costs a tenth of what ipmi_sim does, so that the measurement is of M2 and not of the simulator. It checks no password: whoever
 * has another one fails at its own checks.
 */
export interface Responder {
  port: number;
  close(): Promise<void>;
}

export interface Account {
  user: string;
  password: string;
}

interface Session {
  console: Buffer;
  consoleRandom: Buffer;
  random: Buffer;
  /** Role, length of the name, name: as they go into the digests. */
  who: Buffer;
  integrityKey: Buffer;
  cipherKey: Buffer;
  sequence: number;
}

const [ipmi, openRequest, openResponse, rakp1, rakp2, rakp3, rakp4] = [0, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15] as const;
const header = Buffer.from([6, 0, 0xff, 7]);
const ok = 0;
const unknownCommand = 0xc1;
const guid = randomBytes(16);

const sha1 = (key: Buffer, ...parts: Buffer[]) => createHmac('sha1', key).update(Buffer.concat(parts)).digest();
const checksum = (bytes: Buffer) => Buffer.from([-bytes.reduce((sum, byte) => sum + byte, 0) & 0xff]);
const uint32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

export async function startResponder(account: Account, address = '127.0.0.1'): Promise<Responder> {
  const socket = createSocket('udp4');
  const bmc = new Bmc(account);
  socket.on('message', (message, from) => answer(socket, from, bmc.answer(message)));
  socket.bind(0, address);
  await once(socket, 'listening');
  return {
    port: socket.address().port,
    close: () => new Promise((resolve) => socket.close(() => resolve())),
  };
}

function answer(socket: Socket, from: RemoteInfo, reply: Buffer | undefined): void {
  if (reply) socket.send(reply, from.port, from.address);
}

class Bmc {
  private on = false;
  private last = 0;
  private readonly sessions = new Map<number, Session>();
  private readonly password: Buffer;

  constructor(account: Account) {
    this.password = Buffer.from(account.password);
  }

  /** Undefined for what is none of its business. */
  answer(packet: Buffer): Buffer | undefined {
    if (packet.length < 16 || packet[3] !== 7) return undefined;
    // Session-less IPMI 1.5: only the question what this BMC can do.
    if (packet[4] === 0) return Buffer.concat([header, Buffer.alloc(9), this.sessionless(packet.subarray(14))]);
    const type = packet[5]! & 0x3f;
    const length = packet.readUInt16LE(14);
    const payload = packet.subarray(16, 16 + length);
    if (type === openRequest) return plain(openResponse, this.open(payload));
    if (type === rakp1) return plain(rakp2, this.rakp(payload));
    if (type === rakp3) return plain(rakp4, this.prove(payload));
    const session = type === ipmi ? this.sessions.get(packet.readUInt32LE(6)) : undefined;
    return session && this.inSession(session, payload);
  }

  private sessionless(message: Buffer): Buffer {
    const reply = this.reply(message);
    return Buffer.concat([Buffer.from([reply.length]), reply]);
  }

  private open(request: Buffer): Buffer {
    this.last += 1;
    const console = Buffer.from(request.subarray(4, 8));
    const none = Buffer.alloc(0);
    this.sessions.set(this.last, {
      console,
      consoleRandom: none,
      random: randomBytes(16),
      who: none,
      integrityKey: none,
      cipherKey: none,
      sequence: 0,
    });
    const algorithm = (kind: number) => Buffer.from([kind, 0, 0, 8, 1, 0, 0, 0]);
    const start = Buffer.from([request[0]!, ok, 4, 0]);
    return Buffer.concat([start, console, uint32(this.last), algorithm(0), algorithm(1), algorithm(2)]);
  }

  private rakp(request: Buffer): Buffer {
    const id = request.readUInt32LE(4);
    const session = this.sessions.get(id)!;
    session.consoleRandom = Buffer.from(request.subarray(8, 24));
    const nameLength = request[27]!;
    session.who = Buffer.concat([
      request.subarray(24, 25),
      Buffer.from([nameLength]),
      request.subarray(28, 28 + nameLength),
    ]);
    const { console, consoleRandom, random, who } = session;
    const digest = sha1(this.password, console, uint32(id), consoleRandom, random, guid, who);
    const sik = sha1(this.password, consoleRandom, random, who);
    session.integrityKey = sha1(sik, Buffer.alloc(20, 1));
    session.cipherKey = sha1(sik, Buffer.alloc(20, 2)).subarray(0, 16);
    return Buffer.concat([Buffer.from([request[0]!, ok, 0, 0]), console, random, guid, digest]);
  }

  private prove(request: Buffer): Buffer {
    const id = request.readUInt32LE(4);
    const { console, consoleRandom, random, who } = this.sessions.get(id)!;
    const sik = sha1(this.password, consoleRandom, random, who);
    const proof = sha1(sik, consoleRandom, uint32(id), guid).subarray(0, 12);
    return Buffer.concat([Buffer.from([request[0]!, ok, 0, 0]), console, proof]);
  }

  private inSession(session: Session, payload: Buffer): Buffer {
    const decipher = createDecipheriv('aes-128-cbc', session.cipherKey, payload.subarray(0, 16)).setAutoPadding(false);
    const padded = Buffer.concat([decipher.update(payload.subarray(16)), decipher.final()]);
    const message = padded.subarray(0, padded.length - 1 - padded.at(-1)!);
    return protectedPacket(session, this.reply(message));
  }

  /** An IPMI message and its answer (section 13.8): addresses, network function and command, each half with a checksum. */
  private reply(message: Buffer): Buffer {
    const [to, netFnLun, , from, sequence, command] = message as unknown as number[];
    const data = message.subarray(6, -1);
    const head = Buffer.from([from!, netFnLun! + 4]);
    const body = Buffer.from([to!, sequence!, command!, ...this.execute(netFnLun! >> 2, command!, data)]);
    return Buffer.concat([head, checksum(head), body, checksum(body)]);
  }

  /** Completion code and data. */
  private execute(netFn: number, command: number, data: Buffer): number[] {
    switch ((netFn << 8) | command) {
      case 0x0638: // Get Channel Authentication Capabilities
        return [ok, 1, 0x80, 0x04, 0x03, 0, 0, 0, 0];
      case 0x063b: // Set Session Privilege Level
        return [ok, data[0]!];
      case 0x063c: // Close Session
        this.sessions.delete(data.readUInt32LE(0));
        return [ok];
      case 0x0001: // Get Chassis Status
        return [ok, this.on ? 1 : 0, 0, 0];
      case 0x0002: // Chassis Control
        this.on = data[0] !== 0;
        return [ok];
      case 0x0008: // Set System Boot Options
        return [ok];
      default:
        return [unknownCommand];
    }
  }
}

const plain = (type: number, payload: Buffer): Buffer =>
  Buffer.concat([header, Buffer.from([6, type]), Buffer.alloc(8), lengthOf(payload), payload]);

function lengthOf(payload: Buffer): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16LE(payload.length);
  return bytes;
}

/** Encrypted, then signed from the authentication type to the next header (sections 13.6 and 13.28). */
function protectedPacket(session: Session, message: Buffer): Buffer {
  session.sequence += 1;
  const padLength = (16 - ((message.length + 1) % 16)) % 16;
  const pad = Buffer.from([...Array.from({ length: padLength }, (_, n) => n + 1), padLength]);
  const iv = randomBytes(16);
  const cipher = createCipheriv('aes-128-cbc', session.cipherKey, iv).setAutoPadding(false);
  const payload = Buffer.concat([iv, cipher.update(Buffer.concat([message, pad])), cipher.final()]);
  const packet = Buffer.concat([
    Buffer.from([6, 0xc0]),
    session.console,
    uint32(session.sequence),
    lengthOf(payload),
    payload,
  ]);
  const missing = (4 - ((packet.length + 2) % 4)) % 4;
  const signed = Buffer.concat([packet, Buffer.alloc(missing, 0xff), Buffer.from([missing, 7])]);
  return Buffer.concat([header, signed, sha1(session.integrityKey, signed).subarray(0, 12)]);
}
