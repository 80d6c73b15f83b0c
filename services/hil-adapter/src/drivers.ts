/** The drivers alone, for the benchmark that compares the control plane with them. */
export { IpmiDriver } from './power/ipmi/ipmi-driver.js';
