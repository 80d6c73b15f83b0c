import { type ErrorKind, kind } from './kind.js';

/** Images, and what they are made of. */
export const imagesErrors = {
  'image.not_found': kind(404, 'There is no such image', 'List them with m2 image list.'),
  'image.exists': kind(409, 'An image has this name already', 'Choose another name, or delete that image.'),
  'image.not_ready': kind(
    409,
    'The image is not ready',
    'Wait for its import to end; see with m2 image show whether it failed.',
  ),
  'image.in_use': kind(
    409,
    'Disks depend on the image',
    'Delete these disks (m2 disk delete --purge), or make them independent with m2 disk flatten; wait for copies to end.',
  ),
  'image.ambiguous': kind(409, 'Several images have this name', 'Give the identifier of the one that is meant.'),
  'image.not_waiting': kind(409, 'The image waits for no upload', 'Start one with m2 image import --upload.'),
  'image.export_not_found': kind(404, 'There is no such export of an image', 'See m2 operation list.'),
  'image.not_an_image': kind(422, 'The file is not a disk image', 'Give a raw, qcow2 or vmdk disk image.'),
  'image.unsupported_format': kind(422, 'The image format is not supported', 'Convert it: qemu-img convert -O qcow2.'),
  'image.format_mismatch': kind(
    422,
    'The file is not of the format that was named',
    'Name the right format, or leave it out.',
  ),
  'image.has_backing_file': kind(422, 'The image depends on another file', 'Flatten it: qemu-img convert -O qcow2.'),
  'image.encrypted': kind(422, 'The image is encrypted', 'Decrypt it: qemu-img convert.'),
  'image.too_large': kind(
    422,
    'The image is larger than allowed',
    'Shrink it, or ask the operator to raise the limit.',
  ),
  'image.truncated': kind(422, 'The transfer ended early', 'Check the source, then import again.'),
  'image.checksum_mismatch': kind(
    422,
    'The checksum is not the one that was given',
    'Check the file and its checksum.',
  ),
  'image.source_forbidden': kind(
    422,
    'The source is not on the allow list',
    'Use another source, or ask the operator to allow its folder (m2 up --import-from) or its host (m2 up --import-host).',
  ),
  'image.source_unreachable': kind(
    422,
    'The source could not be read',
    'Check the address, the path or the name of the volume, then import again.',
  ),
} as const satisfies Record<string, ErrorKind>;
