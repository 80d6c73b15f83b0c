import { page, pageOf } from '../fields.js';
import { finding, freeing, quota, quotaLimits, storageRepairs } from '../storage.js';
import { ofCapability, useCase } from './use-case.js';

export const storageUseCases = ofCapability('storage', {
  quotaShow: useCase({
    kind: 'query',
    scope: 'project',
    permission: 'quota.read',
    summary: 'What a project may store, and what it does store',
    output: quota,
  }),
  quotaSet: useCase({
    kind: 'change',
    scope: 'project',
    permission: 'quota.set',
    summary: 'Limits what a project may store; null is no limit',
    input: quotaLimits,
    output: quota,
    example: { bytes: 1_099_511_627_776, disks: 20, images: null },
  }),
  storageCheck: useCase({
    kind: 'query',
    permission: 'storage.check',
    summary: 'Compares the storage with what is on record',
    input: page,
    output: pageOf(finding),
  }),
  storageFreeing: useCase({
    kind: 'query',
    permission: 'storage.check',
    summary: 'Removed volumes whose space is not free yet, and how far that is',
    input: page,
    output: pageOf(freeing),
  }),
  storageRepair: useCase({
    kind: 'change',
    permission: 'storage.repair',
    summary: 'Repairs differences whose grace time is over, some at a time: with `more`, there are more',
    output: storageRepairs,
  }),
});
