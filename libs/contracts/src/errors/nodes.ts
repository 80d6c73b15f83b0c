import { type ErrorKind, kind } from './kind.js';

/** Nodes, their nics, networks and BMCs. */
export const nodesErrors = {
  'node.not_found': kind(404, 'There is no such node', 'List them with m2 node list.'),
  'node.exists': kind(
    409,
    'A node has this name or MAC already',
    'Choose another name or correct the MAC, or remove that node.',
  ),
  'node.busy': kind(409, 'The node is reserved', 'Wait until it is released (m2 deprovision), or choose another node.'),
  'node.broken': kind(
    409,
    'The node is marked broken',
    'Choose another node, or have it repaired: m2 node mark-repaired.',
  ),
  'nic.not_found': kind(404, 'The node has no such nic', 'See its nics with m2 node show.'),
  'network.not_found': kind(404, 'There is no such network', 'Use the network that this installation has.'),
  'driver.unknown': {
    ...kind(
      501,
      'This version of M2 has no driver for the equipment',
      'Update hil-adapter, or choose a driver that it has (m2 node set-bmc).',
    ),
    untouched: true,
  },
  'bmc.unreachable': {
    ...kind(504, 'The BMC does not answer', 'Check its address, its cable and its power.', 'transient'),
    untouched: true,
  },
  'bmc.auth_failed': {
    ...kind(502, 'The BMC refused the credentials', 'Correct them with m2 node set-bmc.'),
    untouched: true,
  },
  'bmc.ignored_command': kind(502, 'The BMC said yes and did nothing', 'Reset the BMC, or power the node by hand.'),
  'bmc.timeout': kind(
    504,
    'The BMC did not finish in time',
    'Check the BMC; then resume or repeat the operation.',
    'transient',
  ),
  'bmc.busy': kind(503, 'The BMC is busy, or is just starting', 'Wait; an operation goes on by itself.', 'transient'),
  'bmc.tool_missing': {
    ...kind(500, 'The program that speaks to BMCs is not installed', 'Install the package ipmitool.'),
    untouched: true,
  },
  'bmc.protocol': kind(502, 'The BMC answered something strange', 'Update its firmware, or try another cipher suite.'),
} as const satisfies Record<string, ErrorKind>;
