import { type Node, nodeList, nodeRegister, nodeRemove, nodeSetBmc, nodeShow, powerShow, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.js';
import { ask, tell } from '../door/ask.js';
import { Given, type Input, Serve, Who } from '../door/serve.js';

const scope = (caller: Caller) => (caller.project ? { project: caller.project } : {});

/** A tenant sees that a node is taken, not by whom, and nothing of its BMC. */
const visibleTo = (caller: Caller, node: Node): Node => {
  if (caller.project === null) return node;
  const ours = node.holderProject === caller.project;
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
  async list(@Given(routes.nodeList) { query }: Input<typeof routes.nodeList>, @Who() caller: Caller) {
    const page = await ask(this.kit, nodeList, { ...query, ...scope(caller) });
    return { ...page, items: page.items.map((node) => visibleTo(caller, node)) };
  }

  @Serve(routes.nodeShow)
  async show(@Given(routes.nodeShow) { params }: Input<typeof routes.nodeShow>, @Who() caller: Caller) {
    return visibleTo(caller, await this.find(params.node, caller));
  }

  @Serve(routes.nodeRegister)
  register(@Given(routes.nodeRegister) { body }: Input<typeof routes.nodeRegister>) {
    return tell(this.kit, nodeRegister, { ...body, nodeId: uuidv7() });
  }

  @Serve(routes.nodeSetBmc)
  async setBmc(@Given(routes.nodeSetBmc) { params, body }: Input<typeof routes.nodeSetBmc>, @Who() caller: Caller) {
    const { id } = await this.find(params.node, caller);
    return tell(this.kit, nodeSetBmc, { nodeId: id, bmc: body });
  }

  @Serve(routes.nodePower)
  async power(@Given(routes.nodePower) { params }: Input<typeof routes.nodePower>, @Who() caller: Caller) {
    const { id } = await this.find(params.node, caller);
    return ask(this.kit, powerShow, { nodeId: id });
  }

  @Serve(routes.nodeRemove)
  async remove(
    @Given(routes.nodeRemove) { params }: Input<typeof routes.nodeRemove>,
    @Who() caller: Caller,
  ): Promise<void> {
    const { id } = await this.find(params.node, caller);
    await tell(this.kit, nodeRemove, { nodeId: id });
  }

  private find(node: string, caller: Caller): Promise<Node> {
    return ask(this.kit, nodeShow, { node, ...scope(caller) });
  }
}
