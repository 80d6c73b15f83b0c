import type { Stage } from '@m2/cli';
import { portsOf } from '@m2/supervisor';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';

/** What a node logs in to its disk with, as its boot script says it. */
export interface Login {
  /** `address:port`, as seen from this machine. */
  portal: string;
  iqn: string;
  initiator: string;
  user: string;
  secret: string;
}

interface Asked {
  method?: 'GET' | 'POST';
  /** The address of this machine to ask from: what the boot service tells nodes apart by. */
  from?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** Asks the boot service what nodes ask it. */
export async function askAsNode(stage: Stage, path: string, { from, body, ...options }: Asked = {}) {
  const { port, provisioningAddress: host } = stage.running.settings;
  const asked = request({ ...options, host, port: portsOf(port).boot, path, localAddress: from });
  asked.end(body);
  const [answer] = (await once(asked, 'response')) as [IncomingMessage];
  return { status: answer.statusCode as number, body: await text(answer) };
}

export const bootScript = async (stage: Stage, mac: string, asked: Asked = {}): Promise<string> =>
  (await askAsNode(stage, `/boot/ipxe?mac=${mac}`, asked)).body;

/** Reads what a boot script logs in with. Throws when it does not boot from an iSCSI disk. */
export function loginOf(stage: Stage, script: string): Login {
  const setting = (name: string) => new RegExp(`^set ${name} (\\S+)$`, 'm').exec(script)?.[1];
  const disk = /^sanboot .*iscsi:\S+?::(\d+):1:(\S+)/m.exec(script);
  const [initiator, user, secret] = [setting('initiator-iqn'), setting('username'), setting('password')];
  if (!disk || !initiator || !user || !secret) throw new Error(`This script boots no disk:\n${script}`);
  const [, port, iqn] = disk as unknown as [string, string, string];
  // With QEMU's user network, nodes see this machine under another address than it sees itself.
  return { portal: `${stage.running.settings.provisioningAddress}:${port}`, iqn, initiator, user, secret };
}
