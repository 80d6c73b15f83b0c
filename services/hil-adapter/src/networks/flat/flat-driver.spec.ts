import { networkConformance } from '../network.conformance.js';
import { FlatNetworkDriver } from './flat-driver.js';

networkConformance('flat', () => ({
  driver: new FlatNetworkDriver('lab'),
  attachment: { node: 'node-1', nic: 'nic-1', mac: '52:54:00:00:00:01', network: 'lab' },
}));
