import { type CanActivate, type ExecutionContext, Inject, Injectable, SetMetadata } from '@nestjs/common';
import { Reflector } from '@nestjs/core';

const FOR_NODES = Symbol('for nodes');

/** A path that a node's firmware may ask without credentials: it has none. The handler ties its answer to MAC and address. */
export const ForNodes = (): MethodDecorator => SetMetadata(FOR_NODES, true);

/** Nothing else is served. */
@Injectable()
export class NodesOnlyGuard implements CanActivate {
  constructor(@Inject(Reflector) private readonly reflector: Reflector) {}

  canActivate(context: ExecutionContext): boolean {
    return this.reflector.get<boolean | undefined>(FOR_NODES, context.getHandler()) === true;
  }
}
