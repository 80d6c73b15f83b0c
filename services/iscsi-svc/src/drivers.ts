/** The drivers alone, for the benchmark that compares the control plane with them. */
export { TgtDriver } from './targets/tgt/tgt-driver.js';
