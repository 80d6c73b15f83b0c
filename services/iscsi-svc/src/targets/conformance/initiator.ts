import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import type { Portal } from '../target.port.js';

/**
 * A minimal iSCSI initiator (RFC 7143) for the tests: login, with CHAP or without, and READ(10). Unlike the programs of libiscsi it can
 * hold a session open, send what no honest initiator sends, and stop reading.
 */
export interface Login {
  portal: Portal;
  iqn: string;
  initiator: string;
  chap?: { user: string; secret: string };
  alias?: string;
}

interface Pdu {
  header: Buffer;
  data: Buffer;
}

const BLOCK_BYTES = 512;

export class Initiator {
  private input = Buffer.alloc(0);
  private readonly waiting: ((pdu: Pdu | undefined) => void)[] = [];
  private readonly received: Pdu[] = [];
  private readonly isid = randomBytes(5);
  private cmdSn = 1;
  private expStatSn = 0;
  private tag = 1;
  private constructor(private readonly socket: Socket) {
    socket.on('data', (chunk) => this.onData(chunk));
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const take of this.waiting.splice(0)) take(undefined);
    });
  }

  /** Logs in; throws an error with the `status` of the refusal (class and detail, for example 0x0201). */
  static async login({ portal, iqn, initiator, chap, alias }: Login): Promise<Initiator> {
    const socket = connect(portal.port, portal.address);
    await once(socket, 'connect');
    const self = new Initiator(socket);
    try {
      await self.negotiate(iqn, initiator, chap, alias);
      // The first command of a session gets "power on occurred" (SAM-5, unit attention).
      self.send(Buffer.alloc(6), 0);
      await self.answer();
      return self;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  /** True once the target has ended the connection. */
  get cut(): boolean {
    return this.socket.closed;
  }

  /** READ(10) of LUN 1: the SCSI status and the data. */
  async read(block: number, blocks: number): Promise<{ status: number; data: Buffer }> {
    this.sendRead(block, blocks);
    return this.answer();
  }

  /** Asks for more than TCP buffers and reads nothing of it, like a node whose power was cut. */
  stall(reads: number, blocks: number): void {
    this.socket.pause();
    for (let i = 0; i < reads; i++) this.sendRead(0, blocks);
  }

  close(): void {
    this.socket.destroy();
  }

  private async answer(): Promise<{ status: number; data: Buffer }> {
    const data: Buffer[] = [];
    for (;;) {
      const pdu = await this.receive();
      const opcode = pdu.header[0]! & 0x3f;
      if (opcode === 0x25) data.push(pdu.data);
      // A SCSI response, or the Data-In that carries the status (S bit).
      if (opcode === 0x21 || (opcode === 0x25 && pdu.header[1]! & 1)) {
        return { status: pdu.header[3]!, data: Buffer.concat(data) };
      }
    }
  }

  private sendRead(block: number, blocks: number): void {
    const cdb = Buffer.alloc(10);
    cdb[0] = 0x28;
    cdb.writeUInt32BE(block, 2);
    cdb.writeUInt16BE(blocks, 7);
    this.send(cdb, blocks * BLOCK_BYTES);
  }

  /** A SCSI command to LUN 1 that expects this much data. */
  private send(cdb: Buffer, expected: number): void {
    const header = this.header(0x01, 0xc0, 0);
    header[9] = 1;
    header.writeUInt32BE(expected, 20);
    cdb.copy(header, 32);
    this.cmdSn++;
    this.socket.write(header);
  }

  private async negotiate(iqn: string, initiator: string, chap: Login['chap'], alias = 'none'): Promise<void> {
    const names = { InitiatorName: initiator, InitiatorAlias: alias, SessionType: 'Normal', TargetName: iqn };
    await this.loginStep(chap ? 0x00 : 0x81, { ...names, AuthMethod: chap ? 'CHAP' : 'None' });
    if (chap) {
      const challenge = await this.loginStep(0x00, { CHAP_A: '5' });
      const id = Number(challenge.get('CHAP_I'));
      const bytes = Buffer.from(challenge.get('CHAP_C')!.slice(2), 'hex');
      const digest = createHash('md5')
        .update(Buffer.from([id]))
        .update(chap.secret)
        .update(bytes)
        .digest('hex');
      await this.loginStep(0x81, { CHAP_N: chap.user, CHAP_R: `0x${digest}` });
    }
    const limits = { MaxRecvDataSegmentLength: '262144', MaxBurstLength: '262144', FirstBurstLength: '65536' };
    await this.loginStep(0x87, { HeaderDigest: 'None', DataDigest: 'None', ErrorRecoveryLevel: '0', ...limits });
  }

  /** One login request and its answer; `flags` are T, CSG and NSG. */
  private async loginStep(flags: number, keys: Record<string, string>): Promise<Map<string, string>> {
    const text = Object.entries(keys).map(([key, value]) => `${key}=${value}\0`);
    const data = Buffer.from(text.join(''));
    const header = this.header(0x43, flags, data.length);
    // A random ISID, because a login with that of an open session ends that session (RFC 7143 section 6.3.5).
    header[8] = 0x80;
    this.isid.copy(header, 9);
    this.socket.write(Buffer.concat([header, data, Buffer.alloc(-data.length & 3)]));
    const answer = await this.receive();
    const status = answer.header.readUInt16BE(36);
    if (status !== 0) throw Object.assign(new Error(`login refused: 0x${status.toString(16)}`), { status });
    this.expStatSn = answer.header.readUInt32BE(24) + 1;
    const pairs = answer.data.toString().split('\0').filter(Boolean);
    return new Map(pairs.map((pair) => pair.split(/=(.*)/s, 2) as [string, string]));
  }

  private header(opcode: number, flags: number, dataLength: number): Buffer {
    const header = Buffer.alloc(48);
    header[0] = opcode;
    header[1] = flags;
    header.writeUIntBE(dataLength, 5, 3);
    // All requests of a login carry one tag.
    header.writeUInt32BE(opcode === 0x43 ? 0 : this.tag++, 16);
    header.writeUInt32BE(this.cmdSn, 24);
    header.writeUInt32BE(this.expStatSn, 28);
    return header;
  }

  private async receive(): Promise<Pdu> {
    const pdu =
      this.received.shift() ??
      (this.socket.closed ? undefined : await new Promise<Pdu | undefined>((resolve) => this.waiting.push(resolve)));
    if (!pdu) throw new Error('the target closed the connection');
    return pdu;
  }

  private onData(chunk: Buffer): void {
    this.input = Buffer.concat([this.input, chunk]);
    for (;;) {
      const length = this.input.length >= 48 ? this.input.readUIntBE(5, 3) : Infinity;
      const end = 48 + length + (-length & 3);
      if (!(this.input.length >= end)) return;
      const pdu = { header: this.input.subarray(0, 48), data: this.input.subarray(48, 48 + length) };
      this.input = this.input.subarray(end);
      const take = this.waiting.shift();
      if (take) take(pdu);
      else this.received.push(pdu);
    }
  }
}
