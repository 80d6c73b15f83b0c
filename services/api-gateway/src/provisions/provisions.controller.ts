import { M2Error, type Node, nodeShow, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { GatewayConfig } from '../config.js';
import { readyDisk, refuseHeld, refuseTakenDisk } from '../disks/find-disk.js';
import { ask } from '../door/ask.js';
import { By, Given, In, type Input, Serve } from '../door/serve.js';
import type { Commission } from '../operations/commission.js';
import { readyImage } from '../images/find-image.js';
import { Runner } from '@m2/saga';
import type { DeprovisionInput } from '../sagas/deprovision.js';
import type { ProvisionInput } from '../sagas/provision.js';
import { Provisions, toProvision } from './provisions.js';

type Request = Input<typeof routes.provisionCreate>['body'];

/** The name that a node's firmware logs in with; one for each node, whatever disk it boots. */
const initiatorOf = (node: Node) => `iqn.2018-10.io.m2:node.${node.id}`;

@Controller()
export class ProvisionsController {
  constructor(
    @Inject(KIT) private readonly kit: Kit<GatewayConfig>,
    @Inject(Runner) private readonly runner: Runner,
    @Inject(Provisions) private readonly provisions: Provisions,
  ) {}

  @Serve(routes.provisionList)
  list(@Given(routes.provisionList) { query }: Input<typeof routes.provisionList>, @In() project: Project) {
    return this.provisions.list(project, query);
  }

  @Serve(routes.provisionShow)
  async show(@Given(routes.provisionShow) { params }: Input<typeof routes.provisionShow>, @In() project: Project) {
    return toProvision(await this.provisions.row(project, params.id));
  }

  @Serve(routes.provisionCreate)
  async create(@Given(routes.provisionCreate) { body }: Input<typeof routes.provisionCreate>, @By() by: Commission) {
    const input = await this.resolve(body, by.project);
    const { provision, node, disk, image } = input;
    const about = { provision, node, disk, ...(image && { image }) };
    return this.runner.begin(by, 'provision', input, about, (sql, operation) =>
      this.provisions.insert(sql, by.project.id, operation, input),
    );
  }

  @Serve(routes.provisionDelete)
  async delete(
    @Given(routes.provisionDelete) { params, query }: Input<typeof routes.provisionDelete>,
    @By() by: Commission,
  ) {
    const row = await this.provisions.row(by.project, params.id);
    const input: DeprovisionInput = {
      provision: row.id,
      node: row.node,
      nic: row.nic,
      network: row.network,
      disk: row.disk,
      exportId: row.export,
      bootConfig: row.boot_config,
      deleteDisk: query.disk === 'delete',
    };
    const about = { provision: row.id, node: row.node, disk: row.disk };
    return this.runner.begin(by, 'deprovision', input, about, (sql, operation) =>
      this.provisions.beginEnd(sql, row.id, operation),
    );
  }

  /** Finds what the request names, as far as this project may see it, and refuses early what cannot work. */
  private async resolve(body: Request, project: Project): Promise<ProvisionInput> {
    const scope = { project: project.id };
    const [node, image, waiting] = await Promise.all([
      ask(this.kit, nodeShow, { ...scope, node: body.node }),
      body.image ? readyImage(this.kit, project, body.image) : null,
      body.disk ? readyDisk(this.kit, project, body.disk) : null,
      body.diskName ? refuseTakenDisk(this.kit, project, body.diskName) : null,
    ]);
    const nic = body.nic ? node.nics.find(({ label }) => label === body.nic) : node.nics[0];
    if (!nic) throw new M2Error('nic.not_found', `The node "${node.name}" has no nic "${body.nic}"`);
    if (node.holder) throw new M2Error('node.busy', `The node "${node.name}" is reserved`);
    if (waiting) refuseHeld(waiting);
    const provision = uuidv7();
    return {
      provision,
      node: node.id,
      nodeName: node.name,
      nic: nic.label,
      mac: nic.mac,
      network: body.network ?? this.kit.config.network,
      disk: waiting?.id ?? uuidv7(),
      diskName: waiting?.name ?? body.diskName ?? `${node.name.slice(0, 50)}-${provision.slice(-8)}`,
      image: image?.id ?? null,
      exportId: uuidv7(),
      bootConfig: uuidv7(),
      initiator: initiatorOf(node),
      waitFor: body.waitFor,
      bootDeadlineMs: this.kit.config.bootDeadlineSeconds * 1_000,
    };
  }
}
