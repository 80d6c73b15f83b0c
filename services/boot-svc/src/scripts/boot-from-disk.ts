import { Reference, renderScript, UnsafeValue, type Statement } from './ipxe-script.js';

/** What a node needs to boot from an exported disk. */
export interface DiskBoot {
  /** For the console only. */
  node: string;
  /** The iSCSI name that the node logs in with. */
  initiator: string;
  /** The iSCSI name of the target; the disk is its LUN 1, as tgt has its controller at 0. */
  target: string;
  /** IPv4 addresses or host names, in the order to try them. */
  portals: { address: string; port: number }[];
  chap: { user: string; password: string };
}

/** What the node does while the disk cannot be booted. */
export interface Patience {
  /** How often all portals are tried. */
  rounds: number;
  /** Seconds between two rounds. */
  pauseSeconds: number;
  /** `reboot` fetches a new script, from a new DHCP answer; `exit` leaves it to the firmware's boot order. */
  finally: 'reboot' | 'exit';
}

/** A target that is being restarted is back in seconds; a minute of patience is cheaper than a reboot, which takes longer. */
export const usualPatience: Patience = { rounds: 10, pauseSeconds: 6, finally: 'reboot' };

/** RFC 4173 section 5: `iscsi:<servername>:<protocol>:<port>:<LUN>:<targetname>`; the LUN is hexadecimal. */
function rootPath({ address, port }: { address: string; port: number }, target: string): string {
  // A colon would shift the fields; iPXE of Debian 12 accepts no IPv6 address here.
  if (!/^[A-Za-z0-9.-]+$/.test(address)) throw new UnsafeValue('address of a portal');
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new UnsafeValue('port of a portal');
  return `iscsi:${address}::${port}:1:${target}`;
}

/**
 * The script that boots a node from its disk. It holds the CHAP secret, so it goes to this node only, and prints none of it.
 * Throws `UnsafeValue` (`boot.unsafe_value`) for a value that could change the script.
 */
export function bootFromDisk(boot: DiskBoot, patience: Patience = usualPatience): string {
  const { node, initiator, target, portals, chap } = boot;
  // With any other number no round would be the last one, and the node would try for ever.
  if (!Number.isSafeInteger(patience.rounds) || patience.rounds < 1) throw new UnsafeValue('number of rounds');
  const attempts = portals.flatMap((portal): Statement[] => [
    { do: 'echo', text: ['M2: logging in at', portal.address] },
    {
      do: 'try',
      attempt: { do: 'sanboot', drive: '0x80', path: rootPath(portal, target) },
      otherwise: { do: 'echo', text: ['M2: no boot from', portal.address, 'error', new Reference('errno')] },
    },
  ]);
  return renderScript([
    { do: 'echo', text: ['M2: node', node, 'boots from', target] },
    // iPXE's own name is made from the machine's UUID, which many machines do not have.
    { do: 'set', setting: 'initiator-iqn', value: initiator },
    { do: 'set', setting: 'username', value: chap.user },
    { do: 'set', setting: 'password', value: chap.password },
    { do: 'set', setting: 'm2-round:int32', value: '0' },
    { do: 'label', name: 'round' },
    ...attempts,
    { do: 'inc', setting: 'm2-round' },
    { do: 'when', equal: [new Reference('m2-round'), String(patience.rounds)], act: { do: 'goto', label: 'give-up' } },
    { do: 'echo', text: ['M2: trying again in', String(patience.pauseSeconds), 'seconds'] },
    { do: 'sleep', seconds: patience.pauseSeconds },
    { do: 'goto', label: 'round' },
    { do: 'label', name: 'give-up' },
    { do: 'echo', text: ['M2: the disk cannot be booted. See the provision in M2.'] },
    // Time to read the screen.
    { do: 'sleep', seconds: 10 },
    { do: patience.finally },
  ]);
}
