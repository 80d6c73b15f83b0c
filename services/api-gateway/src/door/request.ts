import type { Project } from '@m2/contracts';
import type { FastifyRequest } from 'fastify';
import type { Actor } from '../access/actor.js';

/** A request as the guard left it. */
export type M2Request = FastifyRequest & { actor?: Actor; project?: Project };
