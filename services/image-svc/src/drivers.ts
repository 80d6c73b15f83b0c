/** The drivers alone, for the benchmark that compares the control plane with them. */
export { FileBackend } from './backends/file/file-backend.js';
