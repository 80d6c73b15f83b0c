import { z } from 'zod';
import { nameOrId, page, pageOf, reason } from '../fields.js';
import { bmc, node, nodeSpec } from '../hil.js';
import { ofCapability, useCase } from './use-case.js';

const one = z.object({ node: nameOrId });

export const nodeUseCases = ofCapability('nodes', {
  nodeList: useCase({
    kind: 'query',
    permission: 'node.read',
    summary: 'The nodes that the token may use, by name',
    input: page,
    output: pageOf(node),
  }),
  nodeRegister: useCase({
    kind: 'change',
    permission: 'node.register',
    summary: 'Makes a node known',
    input: nodeSpec,
    output: node,
    errors: ['node.exists', 'project.not_found'],
    example: {
      name: 'node-1',
      nics: [{ label: 'eth0', mac: '52:54:00:12:34:56' }],
      bmc: { address: '10.1.1.7', user: 'admin', password: 'correct horse' },
    },
  }),
  nodeShow: useCase({
    kind: 'query',
    permission: 'node.read',
    summary: 'One node',
    input: one,
    output: node,
    errors: ['node.not_found'],
  }),
  nodeSetBmc: useCase({
    kind: 'change',
    permission: 'node.set-bmc',
    summary: 'Changes how a node is powered',
    input: bmc.extend(one.shape),
    output: node,
    errors: ['node.not_found'],
    example: { node: 'node-1', address: '10.1.1.8', user: 'admin', password: 'correct horse' },
  }),
  nodePower: useCase({
    kind: 'query',
    permission: 'node.power',
    summary: 'Asks the BMC of a node for its power state',
    input: one,
    output: z.object({ power: z.enum(['on', 'off']) }),
    errors: ['node.not_found', 'bmc.unreachable', 'bmc.auth_failed'],
  }),
  nodeRemove: useCase({
    kind: 'change',
    permission: 'node.remove',
    summary: 'Forgets a node that nobody holds',
    input: one,
    errors: ['node.not_found', 'node.busy'],
  }),
  nodeMarkBroken: useCase({
    kind: 'change',
    permission: 'node.mark-broken',
    summary: 'Keeps a node from everybody until it is marked repaired; who holds it goes on holding it',
    input: one.extend({ reason }),
    output: node,
    errors: ['node.not_found'],
    example: { node: 'node-1', reason: 'The BMC does not answer; the node is out of the rack' },
  }),
  nodeMarkRepaired: useCase({
    kind: 'change',
    permission: 'node.mark-repaired',
    summary: 'Lets a node that was marked broken be used again',
    input: one.extend({ reason }),
    output: node,
    errors: ['node.not_found'],
    example: { node: 'node-1', reason: 'It has a new BMC, and is seen off' },
  }),
});
