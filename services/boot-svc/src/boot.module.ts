import { Module } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { Boots } from './configs/boots.js';
import { ConfigHandlers } from './configs/config-handlers.js';
import { Dhcp } from './dhcp/dhcp.js';
import { BootController } from './door/boot.controller.js';
import { ProgramsController } from './door/programs.controller.js';
import { NodesOnlyGuard } from './door/nodes-only.js';

@Module({
  controllers: [ConfigHandlers, BootController, ProgramsController],
  providers: [Boots, Dhcp, { provide: APP_GUARD, useClass: NodesOnlyGuard }],
})
export class BootModule {}
