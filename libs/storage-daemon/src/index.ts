export { addDiskExport, exportedDisks, mostDisks, removeDiskExport, type DiskExport } from './disk-exports.js';
export { addDiskLayer, nodesNamed, removeDiskLayers, writableOverlay, type DiskLayer } from './disk-layers.js';
export { StorageDaemonError, type StorageDaemonErrorCode } from './errors.js';
export { mountsIn, mountTable, unmountLazily } from './mounts.js';
export { identify, isAlive, killVerified, type ProcessIdentity } from './process-identity.js';
export { Qmp } from './qmp.js';
export { StorageDaemon } from './storage-daemon.js';
