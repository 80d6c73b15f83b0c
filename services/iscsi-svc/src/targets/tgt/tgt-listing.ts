/**
 * Parses the text of tgtd's `show` requests (usr/target.c, tgt_target_show_all; usr/iscsi/target.c).
 *
 * The text is made for people, and a logged-in initiator chooses a part of it (its alias), line breaks included. So a listing is good for
 * finding and comparing, within one pool, and never proves that something is absent: see `ensureNoTarget` in tgt-export.ts.
 */
export interface ListedTarget {
  tid: number;
  iqn: string;
  /** False while it accepts no logins: it is being removed. */
  ready: boolean;
  sessions: number;
  luns: ListedLun[];
  accounts: string[];
  /** Initiator names and addresses: tgtd does not tell them apart. */
  acl: string[];
}

export interface ListedLun {
  lun: number;
  path: string | null;
  type: string;
  readOnly: boolean;
  /** Opened with O_DIRECT. */
  direct: boolean;
}

export function parseTargets(text: string): ListedTarget[] {
  const targets: ListedTarget[] = [];
  let section = '';
  for (const line of text.split('\n')) {
    const header = /^Target (\d+): (\S+)$/.exec(line);
    if (header) {
      const [, tid, iqn] = header as unknown as [string, string, string];
      targets.push({ tid: Number(tid), iqn, ready: false, sessions: 0, luns: [], accounts: [], acl: [] });
      section = '';
      continue;
    }
    const target = targets.at(-1);
    if (!target) continue;
    const title = /^ {4}(\S.*):$/.exec(line)?.[1];
    if (title) section = title;
    else readLine(target, section, line);
  }
  return targets;
}

function readLine(target: ListedTarget, section: string, line: string): void {
  const indent = line.length - line.trimStart().length;
  const text = line.trim();
  const [key = '', value = ''] = text.split(/: (.*)/, 2);
  if (section === 'System information') {
    if (key === 'State') target.ready = value === 'ready';
  } else if (section === 'I_T nexus information') {
    if (indent === 8 && key === 'I_T nexus') target.sessions++;
  } else if (section === 'LUN information') {
    if (indent === 8 && key === 'LUN') {
      target.luns.push({ lun: Number(value), path: null, type: '', readOnly: false, direct: false });
    }
    const lun = target.luns.at(-1);
    if (!lun) return;
    if (key === 'Readonly') lun.readOnly = value === 'Yes';
    if (key === 'Backing store type') lun.type = value;
    if (key === 'Backing store flags') lun.direct = value.split(' ').includes('direct');
    if (key === 'Backing store path') lun.path = value === 'None' ? null : value;
  } else if (indent === 8 && section === 'Account information') {
    target.accounts.push(text);
  } else if (indent === 8 && section === 'ACL information') {
    target.acl.push(text);
  }
}

export interface ListedConnection {
  sid: number;
  cid: number;
  initiator: string;
  address?: string;
}

/** The connections of one target. Its initiator names passed the ACL, so nobody chose them freely. */
export function parseConnections(text: string): ListedConnection[] {
  const connections: ListedConnection[] = [];
  let sid = 0;
  for (const line of text.split('\n')) {
    const [key = '', value = ''] = line.trim().split(/: (.*)/, 2);
    const current = connections.at(-1);
    if (key === 'Session') sid = Number(value);
    else if (key === 'Connection') connections.push({ sid, cid: Number(value), initiator: '' });
    else if (key === 'Initiator' && current) current.initiator = value;
    else if (key === 'IP Address' && current) current.address = value;
  }
  return connections;
}

/** The portals in tgtd's form: `127.0.0.1:3260`, `[::1]:3260`. */
export function parsePortals(text: string): string[] {
  return [...text.matchAll(/^Portal: (.+),\d+$/gm)].map((match) => match[1]!);
}
