import { type ErrorKind, kind } from './kind.js';

/** Quotas, volumes and the storage itself. */
export const storageErrors = {
  'quota.exceeded': kind(
    403,
    'The project would have more than it may',
    'Delete what is not needed (m2 disk delete --purge), or ask the operator for more: m2 quota set.',
  ),
  'volume.exists': kind(409, 'The storage has a volume of this name', 'Choose another name.'),
  'volume.forbidden': kind(
    422,
    'M2 may not touch this volume of the storage',
    'Ask the operator to allow its pool (m2 up --foreign-volumes).',
  ),
  'storage.full': kind(507, 'The storage is full', 'Delete what is not needed, or add capacity.'),
  'storage.not_found': kind(
    500,
    'The storage lost a volume',
    'Restore the volume from a backup; m2 fsck says what else differs.',
  ),
  'storage.in_use': kind(
    409,
    'The volume is in use',
    'Deprovision what uses it, delete its clones, or wait for what reads it to end.',
  ),
  'storage.exists_differently': kind(
    500,
    'The storage has another volume by this name',
    'Inspect the storage by hand.',
  ),
  'storage.unavailable': kind(
    503,
    'The storage does not answer',
    'Check the storage; an operation goes on by itself.',
    'transient',
  ),
  'storage.timeout': kind(503, 'The storage did not answer in time', 'Check the storage.', 'transient'),
  'storage.too_many_attached': kind(
    507,
    'The storage has as many disks attached as it can',
    'Deprovision nodes that are not needed (m2 provision list). Which storage has which limit: docs/operating.md, Known limits.',
  ),
  'storage.bad_name': kind(500, 'The storage cannot take a volume of this name', 'Report it with the trace id.'),
  'storage.bad_size': kind(
    422,
    'The size cannot be had',
    'Give a multiple of 512 bytes, at least the size of the image.',
  ),
  'storage.bad_source': kind(422, 'The image cannot be read', 'Make it again: qemu-img convert -O qcow2.'),
  'storage.unsupported': kind(422, 'This storage cannot do that', 'See docs/storage.md for what each storage can do.'),
  'storage.aborted': kind(409, 'The import was stopped', 'Import the image again when it is wanted.'),
  'storage.misconfigured': kind(500, 'The storage is not set up right', 'Ask the operator to read the detail.'),
  'storage.read_only': kind(409, 'A golden image is never written to', 'Clone it, and use the clone.'),
} as const satisfies Record<string, ErrorKind>;
