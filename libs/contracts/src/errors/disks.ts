import { type ErrorKind, kind } from './kind.js';

/** Disks and their tags. */
export const disksErrors = {
  'disk.not_found': kind(
    404,
    'There is no such disk',
    'List them with m2 disk list, and those in the trash with m2 disk trash.',
  ),
  'disk.exists': kind(409, 'A disk has this name already', 'Choose another name.'),
  'disk.not_ready': kind(
    409,
    'The disk is not ready',
    'See its state with m2 disk show; one in the trash comes back with m2 disk restore.',
  ),
  'disk.too_many_tags': kind(
    409,
    'The disk has as many tags as it may have',
    'Delete tags that are not needed: m2 disk untag.',
  ),
  'disk.too_deep': kind(
    409,
    'The disk lies too many clones deep',
    'Make the disk that it comes from flat first: m2 disk flatten.',
  ),
  'tag.not_found': kind(404, 'The disk has no such tag', 'List them with m2 disk tags.'),
  'tag.exists': kind(409, 'The disk has a tag of this name already', 'Choose another name.'),
  'tag.in_use': kind(
    409,
    'Disks or images depend on the tag',
    'Delete these disks (m2 disk delete --purge), or make them independent with m2 disk flatten; wait for copies to end.',
  ),
  'disk.in_use': kind(
    409,
    'The disk is in use',
    'Deprovision the node that uses it, or wait for what is done with it to end.',
  ),
  'disk.too_small': kind(
    422,
    'The disk would be too small',
    'A disk only grows: give at least its present size, or that of what it is cloned from.',
  ),
} as const satisfies Record<string, ErrorKind>;
