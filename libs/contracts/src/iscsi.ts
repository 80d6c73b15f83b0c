import { z } from 'zod';
import { backingStore, id, iqn, label, page, pageOf, portal, time } from './fields.js';
import { command, event, query } from './message.js';

/** An iSCSI target with one LUN, for one initiator. The CHAP secret is not part of it: see `exportCredentials`. */
export const iscsiExport = z.object({
  id,
  project: id,
  disk: id,
  iqn,
  lun: z.literal(1),
  initiator: iqn,
  portals: z.array(portal).max(64),
  state: z.enum(['creating', 'ready', 'deleting']),
  createdAt: time,
});
export type IscsiExport = z.infer<typeof iscsiExport>;

export const exportCreate = command(
  'iscsi.export.create',
  'Exports a disk to one initiator, with a CHAP secret of its own',
  z.object({ exportId: id, project: id, disk: id, volume: label, backing: backingStore, initiator: iqn }),
  iscsiExport,
);

export const exportDelete = command(
  'iscsi.export.delete',
  'Cuts the sessions of an export and removes its target; one that is not there is fine',
  z.object({
    exportId: id,
    project: id,
    /** False: the node may still be on and write. Then a host that is away is waited for too, since its target may go on without it. */
    nodeSeenOff: z.boolean().default(true),
  }),
  z.object({}),
);

export const exportCredentials = query(
  'iscsi.export.credentials',
  'What the one initiator needs to log in. For the boot service only: the secret goes into the script of the nic it was made for',
  z.object({ exportId: id, project: id }),
  z.object({
    iqn,
    lun: z.literal(1),
    initiator: iqn,
    portals: z.array(portal).min(1).max(64),
    user: label,
    secret: label,
  }),
  ['boot'],
);

export const exportList = query(
  'iscsi.export.list',
  'The exports of a project',
  page.extend({ project: id }),
  pageOf(iscsiExport),
);

const exportRef = z.object({ id, project: id, disk: id, iqn });
export const exportCreated = event('iscsi.export.created', 'A disk can be reached over iSCSI', exportRef);
export const exportDeleted = event('iscsi.export.deleted', 'A target is gone', exportRef);
export const exportRestored = event('iscsi.export.restored', 'A target that was lost is back', exportRef);
