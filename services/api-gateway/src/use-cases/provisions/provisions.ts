import { type InputOfUseCase, M2Error, type Node, nodeShow, type Project, useCases } from '@m2/contracts';
import { v7 as uuidv7 } from 'uuid';
import { toProvision } from '../../provisions/provisions.js';
import type { DeprovisionInput } from '../../sagas/deprovision.js';
import type { ProvisionInput } from '../../sagas/provision.js';
import { ask } from '../ask.js';
import { readyDisk, refuseHeld, refuseTakenDisk, refuseUsedDisk } from '../disks/find-disk.js';
import { readyImage } from '../images/find-image.js';
import { implement, type Parts } from '../use-case.js';

/** The name that a node's firmware logs in with; one for each node, whatever disk it boots. */
const initiatorOf = (node: Node) => `iqn.2018-10.io.m2:node.${node.id}`;

export const listProvisions = implement(useCases.provisionList, ({ provisions }, { project }, page) =>
  provisions.list(project, page),
);

export const showProvision = implement(useCases.provisionShow, async ({ provisions }, { project }, { id }) =>
  toProvision(await provisions.row(project, id)),
);

export const createProvision = implement(useCases.provisionCreate, async (parts, request, given) => {
  const input = await resolve(parts, request.project, given);
  const { provision, node, disk, image } = input;
  const about = { provision, node, disk, ...(image && { image }) };
  return parts.runner.begin(request, 'provision', input, about, (sql, operation) =>
    parts.provisions.insert(sql, request.project.id, operation, input),
  );
});

export const deleteProvision = implement(
  useCases.provisionDelete,
  async ({ kit, provisions, runner }, request, { id, disk }) => {
    const row = await provisions.row(request.project, id);
    if (disk === 'delete') await refuseUsedDisk(kit, row.project, { id: row.disk, name: row.disk_name });
    const input: DeprovisionInput = {
      provision: row.id,
      node: row.node,
      nic: row.nic,
      network: row.network,
      disk: row.disk,
      exportId: row.export,
      bootConfig: row.boot_config,
      deleteDisk: disk === 'delete',
    };
    const about = { provision: row.id, node: row.node, disk: row.disk };
    return runner.begin(request, 'deprovision', input, about, (sql, operation) =>
      provisions.beginEnd(sql, row.id, operation),
    );
  },
);

/** Finds what the request names, as far as its project may see it, and refuses early what cannot work. */
async function resolve(
  { kit }: Parts,
  project: Project,
  given: InputOfUseCase<typeof useCases.provisionCreate>,
): Promise<ProvisionInput> {
  const [node, image, waiting] = await Promise.all([
    ask(kit, nodeShow, { project: project.id, node: given.node }),
    given.image ? readyImage(kit, project, given.image) : null,
    given.disk ? readyDisk(kit, project, given.disk) : null,
    given.diskName ? refuseTakenDisk(kit, project, given.diskName) : null,
  ]);
  const nic = given.nic ? node.nics.find(({ label }) => label === given.nic) : node.nics[0];
  if (!nic) throw new M2Error('nic.not_found', `The node "${node.name}" has no nic "${given.nic}"`);
  if (node.holder) throw new M2Error('node.busy', `The node "${node.name}" is reserved`);
  if (node.broken) throw new M2Error('node.broken', `The node "${node.name}" is marked broken`);
  if (waiting) refuseHeld(waiting);
  const provision = uuidv7();
  return {
    provision,
    node: node.id,
    nodeName: node.name,
    nic: nic.label,
    mac: nic.mac,
    network: given.network ?? kit.config.network,
    disk: waiting?.id ?? uuidv7(),
    diskName: waiting?.name ?? given.diskName ?? `${node.name.slice(0, 50)}-${provision.slice(-8)}`,
    image: image?.id ?? null,
    exportId: uuidv7(),
    bootConfig: uuidv7(),
    initiator: initiatorOf(node),
    waitFor: given.waitFor,
    bootDeadlineMs: kit.config.bootDeadlineSeconds * 1_000,
  };
}
