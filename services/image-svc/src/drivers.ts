/** The drivers alone, for the benchmarks that compare the control plane with them. */
export { FileBackend } from './backends/file/file-backend.js';
