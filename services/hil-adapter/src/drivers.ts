/** The drivers alone, for the benchmark that compares them with the control plane. */
export { IpmiDriver } from './power/ipmi/ipmi-driver.js';
