/** What a file is according to its first and last bytes. */
export type Sniffed =
  | { kind: 'qcow2' }
  | { kind: 'vmdk' }
  | { kind: 'disk'; sign: string }
  | { kind: 'other'; name: string; remedy: string }
  | { kind: 'unknown' };

/** Bytes from the start that are needed: the magic of the btrfs superblock is the last. */
export const headBytes = 0x10048;
/** Bytes from the end: the footer of a fixed VHD, which otherwise looks like a raw disk. */
export const tailBytes = 512;

interface Sign {
  name: string;
  at: number;
  bytes: string;
}

/** One file with a disk in it, one of the old kind, and the text that names the files of a disk. `checkVmdk` finds out which. */
const vmdk: Sign[] = ['KDMV', 'COWD', '# Disk DescriptorFile'].map((bytes) => ({ name: 'VMDK', at: 0, bytes }));

/** Other disk image formats. They are refused and not converted: their parsers have a long history of security holes. */
const formats: Sign[] = [
  { name: 'VHDX', at: 0, bytes: 'vhdxfile' },
  { name: 'VHD', at: 0, bytes: 'conectix' },
  { name: 'VDI', at: 0x40, bytes: '\x7f\x10\xda\xbe' },
  { name: 'QED', at: 0, bytes: 'QED\0' },
  { name: 'Parallels', at: 0, bytes: 'WithoutFreeSpace' },
  { name: 'Parallels', at: 0, bytes: 'WithouFreSpacExt' },
  { name: 'LUKS', at: 0, bytes: 'LUKS\xba\xbe' },
];
const convert = 'Convert it: qemu-img convert -O qcow2 IMAGE image.qcow2.';

const archives: Sign[] = [
  { name: 'gzip', at: 0, bytes: '\x1f\x8b' },
  { name: 'xz', at: 0, bytes: '\xfd7zXZ\0' },
  { name: 'zstd', at: 0, bytes: '\x28\xb5\x2f\xfd' },
  { name: 'bzip2', at: 0, bytes: 'BZh' },
  { name: 'lz4', at: 0, bytes: '\x04\x22\x4d\x18' },
  { name: 'zip', at: 0, bytes: 'PK\x03\x04' },
  { name: '7z', at: 0, bytes: '7z\xbc\xaf\x27\x1c' },
  { name: 'tar (or OVA)', at: 257, bytes: 'ustar' },
];
const unpack = 'Unpack it and import the disk image in it.';

const medium: Sign = { name: 'ISO 9660', at: 0x8001, bytes: 'CD001' };
const install = 'It is no disk that a node can write to: install from it onto a disk image, and import that.';

/**
 * What a raw file must have to be accepted as a disk: a boot sector's signature (firmware boots nothing without it), a partition table, or
 * a file system on the whole disk, which boots with a kernel from elsewhere.
 */
const disks: Sign[] = [
  { name: 'GPT', at: 512, bytes: 'EFI PART' },
  { name: 'GPT with 4 KiB sectors', at: 4096, bytes: 'EFI PART' },
  { name: 'MBR', at: 510, bytes: '\x55\xaa' },
  { name: 'ext', at: 1024 + 56, bytes: '\x53\xef' },
  { name: 'XFS', at: 0, bytes: 'XFSB' },
  { name: 'btrfs', at: 0x10040, bytes: '_BHRfS_M' },
];

/**
 * Finds out what a file is by its magic bytes, without QEMU's own probing. Container formats come first: the author chooses the bytes of a
 * boot sector, and "qcow2 that also looks like a disk" is an attack, not a disk.
 */
export function sniff(head: Buffer, tail: Buffer): Sniffed {
  if (has(head, { name: 'qcow2', at: 0, bytes: 'QFI\xfb' })) return { kind: 'qcow2' };
  if (vmdk.some((sign) => has(head, sign))) return { kind: 'vmdk' };
  const format = formats.find((sign) => has(head, sign));
  if (format) return { kind: 'other', name: format.name, remedy: convert };
  if (has(tail, { name: 'VHD', at: 0, bytes: 'conectix' })) return { kind: 'other', name: 'VHD', remedy: convert };
  const disk = disks.find((sign) => has(head, sign));
  if (disk) return { kind: 'disk', sign: disk.name };
  const archive = archives.find((sign) => has(head, sign));
  if (archive) return { kind: 'other', name: archive.name, remedy: unpack };
  if (has(head, medium)) return { kind: 'other', name: medium.name, remedy: install };
  return { kind: 'unknown' };
}

function has(bytes: Buffer, { at, bytes: sign }: Sign): boolean {
  return bytes.subarray(at, at + sign.length).equals(Buffer.from(sign, 'latin1'));
}
