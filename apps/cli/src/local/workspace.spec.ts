import { expect, it } from 'vitest';
import { type Bin, binPath, bins, workspaceRoot } from './workspace.js';

it.each(Object.keys(bins) as Bin[])('%s is where its package has it', (bin) => {
  expect(binPath(workspaceRoot(), bin)).toContain(bins[bin]);
});

it('says what to do when the workspace is not installed', () => {
  expect(() => binPath('/nowhere', 'tsc')).toThrow('/nowhere/node_modules/typescript/bin/tsc is missing');
});
