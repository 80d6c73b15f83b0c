import type { Project } from '@m2/contracts';
import type { FastifyRequest } from 'fastify';
import type { Caller } from '../access/caller.js';

/** A request as the guard left it. */
export type M2Request = FastifyRequest & { caller?: Caller; project?: Project };
