import { type ErrorKind, kind } from './kind.js';

/** Disks and their tags. */
export const disksErrors = {
  'disk.not_found': kind(404, 'There is no such disk', 'List them with m2 disk list.'),
  'disk.exists': kind(409, 'A disk has this name already', 'Choose another name.'),
  'disk.not_ready': kind(409, 'The disk is not ready', 'See its state with m2 disk show.'),
  'disk.too_many_tags': kind(409, 'The disk has as many tags as it may have', 'Delete tags that are not needed.'),
  'disk.too_deep': kind(
    409,
    'The disk lies too many clones deep',
    'Make the disk that it comes from flat first: m2 disk flatten.',
  ),
  'tag.not_found': kind(404, 'The disk has no such tag', 'List them with m2 disk tags.'),
  'tag.exists': kind(409, 'The disk has a tag of this name already', 'Choose another name.'),
  'tag.in_use': kind(
    409,
    'Disks depend on the tag',
    'Delete these disks, or make them independent with m2 disk flatten.',
  ),
  'disk.in_use': kind(409, 'The disk is in use', 'Deprovision the node that uses it first.'),
  'disk.too_small': kind(422, 'The disk would be smaller than its image', 'Give a size of at least that of the image.'),
} as const satisfies Record<string, ErrorKind>;
