import { type Node, nodeList, nodeRegister, nodeRemove, nodeSetBmc, nodeShow, powerShow, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Actor } from '../access/actor.js';
import { ask, tell } from '../door/ask.js';
import { Given, type Input, Serve, Who } from '../door/serve.js';

const scope = (actor: Actor) => (actor.project ? { project: actor.project } : {});

/** A tenant sees that a node is taken, not by whom, and nothing of its BMC. */
const visibleTo = (actor: Actor, node: Node): Node => {
  if (actor.project === null) return node;
  const ours = node.holderProject === actor.project;
  return {
    ...node,
    bmc: {
      driver: node.bmc.driver,
      address: 'hidden',
      port: node.bmc.port,
      user: 'hidden',
      cipherSuites: node.bmc.cipherSuites,
    },
    holder: ours ? node.holder : node.holder && hiddenId,
    holderProject: ours ? node.holderProject : node.holderProject && hiddenId,
  };
};
const hiddenId = '00000000-0000-0000-0000-000000000000';

@Controller()
export class NodesController {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Serve(routes.nodeList)
  async list(@Given(routes.nodeList) { query }: Input<typeof routes.nodeList>, @Who() actor: Actor) {
    const page = await ask(this.kit, nodeList, { ...query, ...scope(actor) });
    return { ...page, items: page.items.map((node) => visibleTo(actor, node)) };
  }

  @Serve(routes.nodeShow)
  async show(@Given(routes.nodeShow) { params }: Input<typeof routes.nodeShow>, @Who() actor: Actor) {
    return visibleTo(actor, await this.find(params.node, actor));
  }

  @Serve(routes.nodeRegister)
  register(@Given(routes.nodeRegister) { body }: Input<typeof routes.nodeRegister>) {
    return tell(this.kit, nodeRegister, { ...body, nodeId: uuidv7() });
  }

  @Serve(routes.nodeSetBmc)
  async setBmc(@Given(routes.nodeSetBmc) { params, body }: Input<typeof routes.nodeSetBmc>, @Who() actor: Actor) {
    const { id } = await this.find(params.node, actor);
    return tell(this.kit, nodeSetBmc, { nodeId: id, bmc: body });
  }

  @Serve(routes.nodePower)
  async power(@Given(routes.nodePower) { params }: Input<typeof routes.nodePower>, @Who() actor: Actor) {
    const { id } = await this.find(params.node, actor);
    return ask(this.kit, powerShow, { nodeId: id });
  }

  @Serve(routes.nodeRemove)
  async remove(
    @Given(routes.nodeRemove) { params }: Input<typeof routes.nodeRemove>,
    @Who() actor: Actor,
  ): Promise<void> {
    const { id } = await this.find(params.node, actor);
    await tell(this.kit, nodeRemove, { nodeId: id });
  }

  private find(node: string, actor: Actor): Promise<Node> {
    return ask(this.kit, nodeShow, { node, ...scope(actor) });
  }
}
