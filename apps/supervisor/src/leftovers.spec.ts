import { expect, it } from 'vitest';
import { fuseMountsBelow } from './leftovers.js';

it('finds FUSE mounts below a directory, blanks in their names and all', () => {
  const mountinfo = `22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:35 / /srv/m2/storage/web\\0401 rw,nosuid,nodev - fuse /dev/fuse rw,user_id=0
41 22 0:36 / /srv/m2/storage/db rw - fuse.sshfs host: rw
42 22 0:37 / /srv/m2-other/storage/x rw - fuse /dev/fuse rw
43 22 0:38 / /srv/m2/storage rw - xfs /dev/vdb rw
44 22 0:39 / /srv/m2/odd rw - fusectl none rw
`;
  expect(fuseMountsBelow('/srv/m2', mountinfo)).toEqual(['/srv/m2/storage/web 1', '/srv/m2/storage/db']);
});
