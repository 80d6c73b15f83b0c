import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConnections, parsePortals, parseTargets } from './tgt-listing.js';

const lun = (number: number, type: string, path: string, readOnly = 'No', flags = '') => `        LUN: ${number}
            Type: disk
            SCSI ID: 5e1f
            Size: 4 MB, Block size: 512
            Online: Yes
            Readonly: ${readOnly}
            Backing store type: ${type}
            Backing store path: ${path}
            Backing store flags: ${flags}
`;

/** As tgtd 1.0.85 writes it. */
const target = (tid: number, iqn: string, nexus = '', state = 'ready') => `Target ${tid}: ${iqn}
    System information:
        Driver: iscsi
        State: ${state}
    I_T nexus information:
${nexus}    LUN information:
${lun(0, 'null', 'None')}${lun(1, 'rdwr', '/disks/a: b.raw', 'Yes', 'direct')}    Account information:
        user-${tid}
    ACL information:
        iqn.2024-01.org.m2:node-${tid}
`;

const nexus = (alias: string) => `        I_T nexus: 3
            Initiator: iqn.2024-01.org.m2:node-1 alias: ${alias}
            Connection: 0
                IP Address: 127.0.0.1
`;

describe('parseTargets', () => {
  it('reads targets with sessions, LUNs, accounts and ACL', () => {
    const text = target(1, 'iqn.2024-01.org.m2:a', nexus('none')) + target(2, 'iqn.2024-01.org.m2:b', '', 'offline');
    expect(parseTargets(text)).toEqual([
      {
        tid: 1,
        iqn: 'iqn.2024-01.org.m2:a',
        ready: true,
        sessions: 1,
        luns: [
          { lun: 0, path: null, type: 'null', readOnly: false, direct: false },
          { lun: 1, path: '/disks/a: b.raw', type: 'rdwr', readOnly: true, direct: true },
        ],
        accounts: ['user-1'],
        acl: ['iqn.2024-01.org.m2:node-1'],
      },
      expect.objectContaining({ tid: 2, iqn: 'iqn.2024-01.org.m2:b', ready: false, sessions: 0 }),
    ]);
    expect(parseTargets('')).toEqual([]);
  });

  it('takes whatever an initiator calls itself, and still finds what comes after it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (alias) => {
        const targets = parseTargets(
          target(1, 'iqn.2024-01.org.m2:a', nexus(alias)) + target(2, 'iqn.2024-01.org.m2:b'),
        );
        expect(targets.at(0)).toMatchObject({ tid: 1, ready: true });
        expect(targets.at(-1)).toMatchObject({ tid: 2, accounts: ['user-2'], acl: ['iqn.2024-01.org.m2:node-2'] });
      }),
    );
  });
});

describe('parseConnections', () => {
  it('reads sessions with their connections', () => {
    const text = `Session: 3
    Connection: 0
        Initiator: iqn.2024-01.org.m2:node-1
        IP Address: fe80::1
Session: 4
    Connection: 1
        Initiator: iqn.2024-01.org.m2:node-2
        
`;
    expect(parseConnections(text)).toEqual([
      { sid: 3, cid: 0, initiator: 'iqn.2024-01.org.m2:node-1', address: 'fe80::1' },
      { sid: 4, cid: 1, initiator: 'iqn.2024-01.org.m2:node-2' },
    ]);
    expect(parseConnections('')).toEqual([]);
  });
});

describe('parsePortals', () => {
  it('reads addresses with ports', () => {
    expect(parsePortals('Portal: [::1]:3260,1\nPortal: 127.0.0.1:3261,1\n')).toEqual(['[::1]:3260', '127.0.0.1:3261']);
  });
});
