import { type ErrorKind, kind } from './kind.js';

/** Exports, and the iSCSI targets behind them. */
export const exportsErrors = {
  'export.not_found': kind(404, 'There is no such export', 'It may have been deleted.'),
  'export.conflict': kind(409, 'The disk is exported already', 'Deprovision the node that uses it first.'),
  'target.unreachable': kind(
    503,
    'The iSCSI target does not answer',
    'Check tgtd; exports are restored by themselves.',
    'transient',
  ),
  'target.invalid_value': kind(
    422,
    'The iSCSI target cannot take this value',
    'Use a value without commas or control characters.',
  ),
  'target.failed': kind(
    500,
    'The iSCSI target refused a command',
    'Read the detail and the log of iscsi-svc.',
    'transient',
  ),
  'target.no_backing': kind(
    500,
    'The disk behind a target cannot be opened',
    'Check the storage and the log of iscsi-svc.',
    'transient',
  ),
  'target.no_port': kind(503, 'No port is free for another target', 'Give M2 more ports, or end what uses them.'),
  'target.not_installed': kind(500, 'The iSCSI target is not installed', 'Install the package tgt.'),
  'target.busy': kind(
    503,
    'The target is kept alive by input and output that does not end',
    'Check the storage.',
    'transient',
  ),
  'target.exists': kind(500, 'The target exists already', 'Read the log of iscsi-svc.', 'transient'),
  'target.not_found': kind(500, 'The target does not exist', 'Read the log of iscsi-svc.', 'transient'),
} as const satisfies Record<string, ErrorKind>;
