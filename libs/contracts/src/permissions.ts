import type { Role } from './gateway.js';

const readers = ['member', 'operator', 'auditor'] as const;
const tenants = ['member', 'operator'] as const;
const operators = ['operator'] as const;
const admins: readonly Role[] = [];

/**
 * What can be permitted, as verbs, and the roles that have each permission. This table is the only place that maps one to the other.
 * An admin has every permission, so a permission without a role is an admin's alone.
 */
export const permissions = {
  'self.read': readers,

  'project.read': readers,
  'project.create': operators,
  'project.delete': operators,

  'token.create': admins,
  'token.read': admins,
  'token.revoke': admins,

  'image.read': readers,
  'image.import': tenants,
  'image.update': tenants,
  'image.export': tenants,
  'image.delete': tenants,
  /** Public images are used by every project. */
  'image.publish': operators,
  /** Another project takes the image over. */
  'image.move': operators,

  'disk.read': readers,
  'disk.create': tenants,
  'disk.update': tenants,
  'disk.delete': tenants,
  'disk.restore': tenants,
  'disk.flatten': tenants,
  'disk.tag': tenants,
  'disk.untag': tenants,
  'disk.rollback': tenants,

  'quota.read': readers,
  'quota.set': operators,
  'storage.check': operators,
  'storage.repair': operators,

  'node.read': readers,
  'node.power': operators,
  'node.register': operators,
  'node.set-bmc': operators,
  'node.remove': operators,
  'node.mark-broken': operators,
  'node.mark-repaired': operators,

  'provision.read': readers,
  'provision.create': tenants,
  'provision.delete': tenants,

  'operation.read': readers,
  'operation.cancel': tenants,
  'operation.resume': tenants,
  /** What these leave behind may do harm, so a tenant does not decide it. */
  'operation.skip-step': operators,
  'operation.abandon': operators,

  'event.read': readers,
} as const satisfies Record<string, readonly Role[]>;

export type Permission = keyof typeof permissions;

/** The roles that have a permission, an admin's included. */
export const rolesThatMay = (permission: Permission): Role[] => [...permissions[permission], 'admin'];
