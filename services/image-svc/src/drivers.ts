/** The drivers alone, for the benchmarks that compare the control plane with them. */
export { RbdBackend } from './backends/rbd/rbd-backend.js';
export { FileBackend } from './backends/file/file-backend.js';
