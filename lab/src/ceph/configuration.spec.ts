import { describe, expect, it } from 'vitest';
import { clientCaps, clientConf, clusterConf, encodeKey, keyring } from './configuration.js';
import { layoutOf } from './layout.js';

const identity = { fsid: '6a1c', osdUuid: '77aa', monPort: 6123, osdBytes: 2 ** 30 };
const layout = layoutOf('/srv/ceph');

describe("a cluster's configuration", () => {
  it('keeps the administrator from the clients', () => {
    const conf = clientConf(identity, 'm2', layout.clientKeyring);
    expect(conf).toContain('mon_host = [v2:127.0.0.1:6123]\n');
    expect(conf).toContain('[client.m2]\nkeyring = /srv/ceph/client.m2.keyring\n');
    expect(conf).not.toContain('admin');
    expect(clusterConf(layout, identity)).toContain('[client.admin]\nkeyring = /srv/ceph/client.admin.keyring\n');
  });

  it('has keys as Ceph writes them', () => {
    // Made by `ceph-authtool --gen-print-key`, but for the nanoseconds.
    const key = 'AQCBKQNrAAAAABAAmdHXN4JeIcAUgJy0FVr/jw==';
    const secret = Buffer.from('99d1d737825e21c014809cb4155aff8f', 'hex');
    expect(encodeKey(secret, new Date('2026-11-22T17:42:25Z'))).toBe(key);
  });

  it('quotes quotes in keyrings', () => {
    const text = keyring('client.x', 'KEY', { mon: 'allow command "auth get" with entity prefix client.x.' });
    expect(text).toBe(
      '[client.x]\n\tkey = KEY\n\tcaps mon = "allow command \\"auth get\\" with entity prefix client.x."\n',
    );
    expect(clientCaps()['osd']).toBe('profile rbd pool=m2-images, profile rbd pool=m2-disks');
  });
});
