import { bootConfigCreate, bootConfigDelete, bootConfigShow, M2Error, type RequestOf } from '@m2/contracts';
import { Answers, type Effect, Handles, type Kit, KIT, violatesUnique } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { configById, type ConfigRow, toConfig } from './config-store.js';

/** Which nic boots what. Nothing is made on any hardware: a script is built when a node asks for it. */
@Controller()
export class ConfigHandlers {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Answers(bootConfigShow)
  async show({ configId, project }: RequestOf<typeof bootConfigShow>) {
    const row = await configById(this.kit.database, configId);
    if (!row || row.project !== project)
      throw new M2Error('boot.config_not_found', `There is no boot configuration ${configId}`);
    return toConfig(row);
  }

  @Handles(bootConfigCreate)
  async create(request: RequestOf<typeof bootConfigCreate>, effect: Effect) {
    try {
      return await effect.commit(async (sql) => {
        await sql.query(
          `INSERT INTO boot_configs (id, project, provision, node, node_name, mac, export, initiator)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING`,
          [
            request.configId,
            request.project,
            request.provision,
            request.node,
            request.nodeName,
            request.mac,
            request.exportId,
            request.initiator,
          ],
        );
        return toConfig((await configById(sql, request.configId)) as ConfigRow);
      });
    } catch (error) {
      if (violatesUnique(error, 'boot_configs_mac'))
        throw new M2Error('boot.conflict', `The nic ${request.mac} has a boot armed already`);
      throw error;
    }
  }

  @Handles(bootConfigDelete)
  delete({ configId, project }: RequestOf<typeof bootConfigDelete>, effect: Effect) {
    return effect.commit(async (sql) => {
      await sql.query('DELETE FROM boot_configs WHERE id = $1 AND project = $2', [configId, project]);
      return {};
    });
  }
}
