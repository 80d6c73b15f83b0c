import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { missingPackages, rbdPackages, servicePackages } from './packages.js';

const run = promisify(execFile);
const installed = [...servicePackages, ...rbdPackages].filter((entry) => !missingPackages([entry]).includes(entry));

it.each(installed)('$file is of $name', async ({ name, file }) => {
  // On a merged-/usr system dpkg knows some files by their old place.
  const places = [file, file.replace(/^\/usr/, '')];
  const { stdout } = await Promise.any(places.map((place) => run('dpkg', ['-S', place])));
  expect(stdout.split(/[,:]/)[0]).toBe(name);
});
