import { useCases } from '../use-cases/index.js';
import { type AnyRoute, route } from './route.js';

const byPath = {
  whoami: route(useCases.whoami, 'GET /v1/whoami'),

  projectList: route(useCases.projectList, 'GET /v1/projects'),
  projectCreate: route(useCases.projectCreate, 'POST /v1/projects', { status: 201 }),
  projectShow: route(useCases.projectShow, 'GET /v1/projects/{project}'),
  projectDelete: route(useCases.projectDelete, 'DELETE /v1/projects/{project}'),

  tokenCreate: route(useCases.tokenCreate, 'POST /v1/tokens', { status: 201 }),
  tokenList: route(useCases.tokenList, 'GET /v1/tokens'),
  tokenRevoke: route(useCases.tokenRevoke, 'DELETE /v1/tokens/{id}'),

  imageList: route(useCases.imageList, 'GET /v1/projects/{project}/images'),
  imageImport: route(useCases.imageImport, 'POST /v1/projects/{project}/images'),
  imageShow: route(useCases.imageShow, 'GET /v1/projects/{project}/images/{image}'),
  imageTree: route(useCases.imageTree, 'GET /v1/projects/{project}/images/{image}/tree'),
  imageUpdate: route(useCases.imageUpdate, 'PATCH /v1/projects/{project}/images/{image}'),
  imageExport: route(useCases.imageExport, 'POST /v1/projects/{project}/images/{image}/export'),
  imageDelete: route(useCases.imageDelete, 'DELETE /v1/projects/{project}/images/{image}'),
  imageContent: route(useCases.imageContent, 'GET /v1/projects/{project}/images/{image}/content', {
    transfer: 'download',
  }),
  // tus 1.0.0: creation, what has come, another piece.
  uploadCreate: route(useCases.imageUpload, 'POST /v1/projects/{project}/images/{image}/upload', {
    transfer: 'upload',
    status: 201,
  }),
  uploadShow: route(useCases.imageUpload, 'HEAD /v1/projects/{project}/images/{image}/upload', {
    transfer: 'upload',
  }),
  uploadAppend: route(useCases.imageUpload, 'PATCH /v1/projects/{project}/images/{image}/upload', {
    transfer: 'upload',
    status: 204,
  }),

  diskList: route(useCases.diskList, 'GET /v1/projects/{project}/disks'),
  diskCreate: route(useCases.diskCreate, 'POST /v1/projects/{project}/disks'),
  diskShow: route(useCases.diskShow, 'GET /v1/projects/{project}/disks/{disk}'),
  diskUpdate: route(useCases.diskUpdate, 'PATCH /v1/projects/{project}/disks/{disk}'),
  diskDelete: route(useCases.diskDelete, 'DELETE /v1/projects/{project}/disks/{disk}'),
  diskRestore: route(useCases.diskRestore, 'POST /v1/projects/{project}/disks/{disk}/restore'),
  diskFlatten: route(useCases.diskFlatten, 'POST /v1/projects/{project}/disks/{disk}/flatten'),
  diskTags: route(useCases.diskTags, 'GET /v1/projects/{project}/disks/{disk}/tags'),
  diskTag: route(useCases.diskTag, 'POST /v1/projects/{project}/disks/{disk}/tags'),
  diskUntag: route(useCases.diskUntag, 'DELETE /v1/projects/{project}/disks/{disk}/tags/{tag}'),
  diskRollback: route(useCases.diskRollback, 'POST /v1/projects/{project}/disks/{disk}/rollback'),
  diskContent: route(useCases.diskContent, 'GET /v1/projects/{project}/disks/{disk}/content', {
    transfer: 'download',
  }),

  quotaShow: route(useCases.quotaShow, 'GET /v1/projects/{project}/quota'),
  quotaSet: route(useCases.quotaSet, 'PUT /v1/projects/{project}/quota'),
  storageCheck: route(useCases.storageCheck, 'GET /v1/storage/check'),
  storageFreeing: route(useCases.storageFreeing, 'GET /v1/storage/freeing'),
  storageRepair: route(useCases.storageRepair, 'POST /v1/storage/repair'),

  nodeList: route(useCases.nodeList, 'GET /v1/nodes'),
  nodeRegister: route(useCases.nodeRegister, 'POST /v1/nodes', { status: 201 }),
  nodeShow: route(useCases.nodeShow, 'GET /v1/nodes/{node}'),
  nodeSetBmc: route(useCases.nodeSetBmc, 'PUT /v1/nodes/{node}/bmc'),
  nodePower: route(useCases.nodePower, 'GET /v1/nodes/{node}/power'),
  nodeRemove: route(useCases.nodeRemove, 'DELETE /v1/nodes/{node}'),
  nodeMarkBroken: route(useCases.nodeMarkBroken, 'POST /v1/nodes/{node}/mark-broken'),
  nodeMarkRepaired: route(useCases.nodeMarkRepaired, 'POST /v1/nodes/{node}/mark-repaired'),

  provisionList: route(useCases.provisionList, 'GET /v1/projects/{project}/provisions'),
  provisionCreate: route(useCases.provisionCreate, 'POST /v1/projects/{project}/provisions'),
  provisionShow: route(useCases.provisionShow, 'GET /v1/projects/{project}/provisions/{id}'),
  provisionDelete: route(useCases.provisionDelete, 'DELETE /v1/projects/{project}/provisions/{id}'),

  operationList: route(useCases.operationList, 'GET /v1/operations'),
  operationShow: route(useCases.operationShow, 'GET /v1/operations/{id}'),
  operationCancel: route(useCases.operationCancel, 'POST /v1/operations/{id}/cancel', { status: 202 }),
  operationResume: route(useCases.operationResume, 'POST /v1/operations/{id}/resume', { status: 202 }),
  operationSkipPlan: route(useCases.operationSkipPlan, 'GET /v1/operations/{id}/skip-step'),
  operationSkipStep: route(useCases.operationSkipStep, 'POST /v1/operations/{id}/skip-step', { status: 202 }),
  operationAbandonPlan: route(useCases.operationAbandonPlan, 'GET /v1/operations/{id}/abandon'),
  operationAbandon: route(useCases.operationAbandon, 'POST /v1/operations/{id}/abandon'),

  eventList: route(useCases.eventList, 'GET /v1/events'),

  openapi: route(useCases.openapi, 'GET /v1/openapi.json'),
  asyncapi: route(useCases.asyncapi, 'GET /v1/asyncapi.json'),
  health: route(useCases.health, 'GET /healthz'),
};

type Named<T> = { [Name in keyof T]: T[Name] & { name: string } };

/** The REST API: the gateway's paths, its OpenAPI document and the client are made from it. */
export const routes: Named<typeof byPath> = Object.fromEntries(
  Object.entries(byPath).map(([name, given]) => [name, { ...given, name }]),
) as never;

export type Routes = typeof routes;
export type RouteName = keyof Routes;
export const allRoutes: AnyRoute[] = Object.values(routes);
