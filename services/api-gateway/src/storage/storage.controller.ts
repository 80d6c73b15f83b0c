import { type Project, quotaSet, quotaShow, routes, storageCheck, storageRepair } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Inject } from '@nestjs/common';
import { ask, askAtLength, tell } from '../door/ask.js';
import { Given, In, type Input, Serve } from '../door/serve.js';

/** What projects may store, and whether the storage has what it should have. */
@Controller()
export class StorageController {
  constructor(@Inject(KIT) private readonly kit: Kit) {}

  @Serve(routes.quotaShow)
  quota(@In() project: Project) {
    return ask(this.kit, quotaShow, { project: project.id });
  }

  @Serve(routes.quotaSet)
  setQuota(@Given(routes.quotaSet) { body }: Input<typeof routes.quotaSet>, @In() project: Project) {
    return tell(this.kit, quotaSet, { project: project.id, limits: body });
  }

  @Serve(routes.storageCheck)
  check() {
    return askAtLength(this.kit, storageCheck, {});
  }

  @Serve(routes.storageRepair)
  repair() {
    return tell(this.kit, storageRepair, {});
  }
}
