import { z } from 'zod';
import { disk, tag } from './disk.js';
import { errorValue } from './fields.js';
import { auditEvent, operation, operationStep, project, provision, token } from './gateway.js';
import { bmc, nic, node } from './hil.js';
import { image, imageMetadata, imageSource, progress } from './image.js';
import { finding, quota, quotaLimits } from './storage.js';

/** What the things of the API are called in its documents, so that a client generated from them has types with these names. */
export const named = z.registry<{ id: string }>();

const names = {
  Project: project,
  Token: token,
  Image: image,
  ImageMetadata: imageMetadata,
  ImageSource: imageSource,
  Disk: disk,
  Tag: tag,
  Quota: quota,
  QuotaLimits: quotaLimits,
  Finding: finding,
  Node: node,
  Nic: nic,
  Bmc: bmc,
  Provision: provision,
  Operation: operation,
  OperationStep: operationStep,
  Event: auditEvent,
  Progress: progress,
  Failure: errorValue,
};
for (const [id, schema] of Object.entries(names)) named.add(schema, { id });
