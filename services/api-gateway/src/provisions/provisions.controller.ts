import { type Disk, diskShow, imageShow, M2Error, type Node, nodeShow, type Project, routes } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { v7 as uuidv7 } from 'uuid';
import type { Caller } from '../access/caller.js';
import type { GatewayConfig } from '../config.js';
import { ask } from '../door/ask.js';
import { Given, type Idempotency, IdempotencyKey, In, type Input, Serve, Who } from '../door/serve.js';
import { Runner } from '../operations/runner.js';
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
  async create(
    @Given(routes.provisionCreate) { body }: Input<typeof routes.provisionCreate>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const input = await this.resolve(body, project);
    const id = uuidv7();
    const { provision, node, disk, image } = input;
    return this.runner.accept(
      {
        id,
        project: project.id,
        kind: 'provision',
        input,
        about: { provision, node, disk, ...(image && { image }) },
        caller,
        idempotency,
      },
      (sql) => this.provisions.insert(sql, project.id, id, input),
    );
  }

  @Serve(routes.provisionDelete)
  async delete(
    @Given(routes.provisionDelete) { params, query }: Input<typeof routes.provisionDelete>,
    @In() project: Project,
    @Who() caller: Caller,
    @IdempotencyKey() idempotency: Idempotency | undefined,
  ) {
    const row = await this.provisions.row(project, params.id);
    const id = uuidv7();
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
    return this.runner.accept(
      {
        id,
        project: project.id,
        kind: 'deprovision',
        input,
        about: { provision: row.id, node: row.node, disk: row.disk },
        caller,
        idempotency,
      },
      (sql) => this.provisions.beginEnd(sql, row.id, id),
    );
  }

  /** Finds what the request names, as far as this project may see it, and refuses early what cannot work. */
  private async resolve(body: Request, project: Project): Promise<ProvisionInput> {
    const scope = { project: project.id };
    const [node, image, waiting, namesake] = await Promise.all([
      ask(this.kit, nodeShow, { ...scope, node: body.node }),
      body.image ? ask(this.kit, imageShow, { ...scope, image: body.image }) : null,
      body.disk ? ask(this.kit, diskShow, { ...scope, disk: body.disk }) : null,
      body.diskName ? this.diskNamed(body.diskName, project) : null,
    ]);
    const nic = body.nic ? node.nics.find(({ label }) => label === body.nic) : node.nics[0];
    if (!nic) throw new M2Error('nic.not_found', `The node "${node.name}" has no nic "${body.nic}"`);
    if (node.holder) throw new M2Error('node.busy', `The node "${node.name}" is reserved`);
    if (image && image.state !== 'ready')
      throw new M2Error('image.not_ready', `The image "${image.name}" is ${image.state}`);
    if (waiting?.holder)
      throw new M2Error('disk.in_use', `The disk "${waiting.name}" is used by provision ${waiting.holder}`);
    if (waiting && waiting.state !== 'ready')
      throw new M2Error('disk.in_use', `The disk "${waiting.name}" is ${waiting.state}`);
    if (namesake) throw new M2Error('disk.exists', `There is a disk "${namesake.name}" already`);
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

  private async diskNamed(name: string, project: Project): Promise<Disk | null> {
    try {
      return await ask(this.kit, diskShow, { project: project.id, disk: name });
    } catch (error) {
      if (M2Error.from(error).code === 'disk.not_found') return null;
      throw error;
    }
  }
}
