/** A Debian 12 package. */
export interface DebianPackage {
  name: string;
  /** What it is there for. */
  job: string;
  /** A file of the package; when it exists, the package need not be installed. */
  file: string;
}

/**
 * What nodes, BMCs and the bootable test image need beside what M2 itself needs (@m2/supervisor's `servicePackages`); the
 * image's kernel is downloaded by its builder and not installed.
 */
export const labPackages: DebianPackage[] = [
  {
    name: 'qemu-block-extra',
    job: 'comparing disks over iSCSI',
    file: '/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so',
  },
  { name: 'qemu-system-x86', job: 'nodes', file: '/usr/bin/qemu-system-x86_64' },
  { name: 'ipxe-qemu', job: 'network boot ROM of the nodes', file: '/usr/lib/ipxe/qemu/efi-virtio.rom' },
  { name: 'ovmf', job: 'UEFI firmware of the nodes', file: '/usr/share/OVMF/OVMF_CODE_4M.fd' },
  { name: 'openipmi', job: 'BMCs of the nodes', file: '/usr/bin/ipmi_sim' },
  { name: 'iproute2', job: 'networks of the nodes', file: '/usr/sbin/ip' },
  { name: 'libiscsi-bin', job: 'looking at targets', file: '/usr/bin/iscsi-ls' },
  // The other busybox package has the same program, but linked to libraries that the image lacks.
  { name: 'busybox-static', job: 'userland of the image', file: '/usr/share/doc/busybox-static/copyright' },
  { name: 'open-iscsi', job: 'iSCSI initiator of the image', file: '/usr/sbin/iscsistart' },
  { name: 'cpio', job: 'initramfs of the image', file: '/usr/bin/cpio' },
  { name: 'zstd', job: 'initramfs of the image', file: '/usr/bin/zstd' },
  { name: 'fdisk', job: 'partitions of the image', file: '/usr/sbin/sfdisk' },
  { name: 'e2fsprogs', job: 'root file system of the image', file: '/usr/sbin/mke2fs' },
  { name: 'mtools', job: 'EFI partition of the image', file: '/usr/bin/mcopy' },
  { name: 'grub-common', job: 'boot loader of the image', file: '/usr/bin/grub-mkimage' },
  { name: 'grub-pc-bin', job: 'boot loader for BIOS', file: '/usr/lib/grub/i386-pc/boot.img' },
  { name: 'grub-efi-amd64-bin', job: 'boot loader for UEFI', file: '/usr/lib/grub/x86_64-efi/kernel.img' },
];

/** What a one-node Ceph cluster needs beside what M2 needs to use any cluster (@m2/supervisor's `rbdPackages`). */
export const cephPackages: DebianPackage[] = [
  { name: 'ceph-mon', job: "Ceph's monitor", file: '/usr/bin/ceph-mon' },
  { name: 'ceph-osd', job: "Ceph's storage", file: '/usr/bin/ceph-osd' },
  { name: 'ceph-mgr', job: "Ceph's statistics", file: '/usr/bin/ceph-mgr' },
  { name: 'ceph-common', job: "Ceph's command line", file: '/usr/bin/ceph' },
];
