import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ExportSpec } from '../target.port.js';
import { checkSpec, scsiIdentity } from './export-values.js';

const good: ExportSpec = {
  pool: 'tenant',
  iqn: 'iqn.2024-01.org.m2:disk-1',
  backing: { type: 'file', path: '/var/lib/m2/disk 1.raw' },
  initiator: 'iqn.2024-01.org.m2:node_1',
  chap: { user: 'user', secret: 'secret-of-12' },
};

describe('checkSpec', () => {
  it('takes what tgtd takes', () => {
    expect(() => checkSpec(good)).not.toThrow();
  });

  it.each<[string, Partial<ExportSpec>]>([
    ['a pool of no name', { pool: '' }],
    ['an underscore in the target', { iqn: 'iqn.2024-01.org.m2:disk_1' }],
    ['a target in upper case', { iqn: 'iqn.2024-01.org.m2:Disk' }],
    ['a target that is too long', { iqn: `iqn.2024-01.org.m2:${'a'.repeat(220)}` }],
    ['another kind of name', { initiator: 'eui.02004567A425678D' }],
    ['everybody', { initiator: 'ALL' }],
    ['a secret of 11 characters', { chap: { user: 'user', secret: 'x'.repeat(11) } }],
    ['a secret of 256 characters', { chap: { user: 'user', secret: 'x'.repeat(256) } }],
    ['a secret beyond ASCII', { chap: { user: 'user', secret: 'schlüssel-schlüssel' } }],
    ['a user with a space', { chap: { user: 'a b', secret: good.chap.secret } }],
    ['a relative path', { backing: { type: 'file', path: 'disk.raw' } }],
    ['a path with a space at its end', { backing: { type: 'file', path: '/disk.raw ' } }],
    ['a path with a comma', { backing: { type: 'file', path: '/a,bstype=aio' } }],
  ])('refuses %s', (_, change) => {
    expect(() => checkSpec({ ...good, ...change })).toThrow(expect.objectContaining({ code: 'target.invalid_value' }));
  });

  it('never repeats a secret', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 4 }), (secret) => {
        const attempt = () => checkSpec({ ...good, chap: { user: 'user', secret: `${secret},` } });
        expect(attempt).toThrow(expect.objectContaining({ message: expect.not.stringContaining(`${secret},`) }));
      }),
    );
  });
});

describe('scsiIdentity', () => {
  it('is that of the export: always the same, and never that of another', () => {
    expect(scsiIdentity('iqn.2024-01.org.m2:a')).toEqual(scsiIdentity('iqn.2024-01.org.m2:a'));
    expect(scsiIdentity('iqn.2024-01.org.m2:a').scsi_id).not.toBe(scsiIdentity('iqn.2024-01.org.m2:b').scsi_id);
    // SCSI_ID_LEN and SCSI_SN_LEN in usr/tgtd.h.
    expect(scsiIdentity('iqn.2024-01.org.m2:a').scsi_id).toMatch(/^[0-9a-f]{32}$/);
  });
});
