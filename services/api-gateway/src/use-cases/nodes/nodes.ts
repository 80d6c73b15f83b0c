import {
  type Node,
  nodeList,
  nodeMarkBroken,
  nodeMarkRepaired,
  nodeRegister,
  nodeRemove,
  nodeSetBmc,
  nodeShow,
  powerShow,
  useCases,
} from '@m2/contracts';
import type { Kit } from '@m2/service-kit';
import type { Actor } from '../../access/actor.js';
import { ask, tell } from '../ask.js';
import { implement } from '../use-case.js';

const scope = (actor: Actor) => (actor.project ? { project: actor.project } : {});
const find = (kit: Kit, actor: Actor, node: string): Promise<Node> => ask(kit, nodeShow, { node, ...scope(actor) });

const hiddenId = '00000000-0000-0000-0000-000000000000';

/** A tenant sees that a node is taken, not by whom, and nothing of its BMC. */
const visibleTo = (actor: Actor, node: Node): Node => {
  if (actor.project === null) return node;
  const ours = node.holderProject === actor.project;
  const { driver, port, cipherSuites } = node.bmc;
  return {
    ...node,
    bmc: { driver, address: 'hidden', port, user: 'hidden', cipherSuites },
    holder: ours ? node.holder : node.holder && hiddenId,
    holderProject: ours ? node.holderProject : node.holderProject && hiddenId,
    broken: node.broken && { ...node.broken, by: 'hidden', reason: 'hidden' },
  };
};

export const listNodes = implement(useCases.nodeList, async ({ kit }, { actor }, page) => {
  const found = await ask(kit, nodeList, { ...page, ...scope(actor) });
  return { ...found, items: found.items.map((node) => visibleTo(actor, node)) };
});

export const showNode = implement(useCases.nodeShow, async ({ kit }, { actor }, { node }) =>
  visibleTo(actor, await find(kit, actor, node)),
);

export const registerNode = implement(useCases.nodeRegister, ({ kit, projects }, request, spec) =>
  projects.during(spec.project ? [spec.project] : [], () =>
    tell(kit, request, nodeRegister, { ...spec, nodeId: request.id }),
  ),
);

export const setBmc = implement(useCases.nodeSetBmc, async ({ kit }, request, { node, ...bmc }) => {
  const { id } = await find(kit, request.actor, node);
  return tell(kit, request, nodeSetBmc, { nodeId: id, bmc });
});

export const showPower = implement(useCases.nodePower, async ({ kit }, { actor }, { node }) => {
  const { id } = await find(kit, actor, node);
  return ask(kit, powerShow, { nodeId: id });
});

export const removeNode = implement(useCases.nodeRemove, async ({ kit }, request, { node }) => {
  const { id } = await find(kit, request.actor, node);
  await tell(kit, request, nodeRemove, { nodeId: id });
  return undefined;
});

export const markBroken = implement(useCases.nodeMarkBroken, async ({ kit }, request, { node, reason }) => {
  const { id } = await find(kit, request.actor, node);
  return tell(kit, request, nodeMarkBroken, { nodeId: id, by: request.actor.name, reason });
});

export const markRepaired = implement(useCases.nodeMarkRepaired, async ({ kit }, request, { node, reason }) => {
  const { id } = await find(kit, request.actor, node);
  return tell(kit, request, nodeMarkRepaired, { nodeId: id, by: request.actor.name, reason });
});
