import { asyncApi, openApi, useCases } from '@m2/contracts';
import { implement } from '../use-case.js';

export const describeRest = implement(useCases.openapi, async () => openApi());
export const describeMessages = implement(useCases.asyncapi, async () => asyncApi());
export const showHealth = implement(useCases.health, async () => ({ status: 'ok' as const }));
