import type { FastifyRequest } from 'fastify';
import type { Admission } from '../../access/access.js';

/** A request as the guard left it. */
export type AdmittedRequest = FastifyRequest & { admission?: Admission };

/** What Fastify knows of a route: only one that takes an upload gets a body that nobody has read. */
export interface RouteSettings {
  upload?: boolean;
}
