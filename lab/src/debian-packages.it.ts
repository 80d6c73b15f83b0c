import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cephPackages, labPackages } from './debian-packages.js';
import { run } from './process/run.js';

describe('the list of Debian packages', () => {
  it.each([...labPackages, ...cephPackages].filter((entry) => existsSync(entry.file)))(
    '$file is of $name',
    async ({ name, file }) => {
      // On a merged-/usr system dpkg knows some files by their old place.
      const owners = await Promise.any([run('dpkg', ['-S', file]), run('dpkg', ['-S', file.replace(/^\/usr/, '')])]);
      expect(owners.split(/[,:]/)[0]).toBe(name);
    },
  );
});
