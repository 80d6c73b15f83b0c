/** The backends: for the module of image-svc, which picks one, and for the benchmarks, which measure them alone. */
export { FileBackend } from './backends/file/file-backend.js';
export { RbdBackend } from './backends/rbd/rbd-backend.js';
export { ZfsBackend } from './backends/zfs/zfs-backend.js';
