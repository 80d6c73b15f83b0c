import { type Kit, KIT } from '@m2/service-kit';
import { Controller, Get, Header, HttpException, Inject, StreamableFile } from '@nestjs/common';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { BootConfiguration } from '../config.js';
import { bootPrograms, uefiProgramPath } from '../dhcp/dnsmasq-config.js';
import { ForNodes } from './nodes-only.js';

/** The one program that UEFI firmware fetches over HTTP when it boots without TFTP. */
@Controller()
export class ProgramsController {
  constructor(@Inject(KIT) private readonly kit: Kit<BootConfiguration>) {}

  @Get(uefiProgramPath)
  @ForNodes()
  @Header('content-type', 'application/efi')
  async program(): Promise<StreamableFile> {
    const path = join(this.kit.config.bootDirectory, 'dhcp', 'tftp', bootPrograms.uefi);
    try {
      const file = await open(path);
      const { size } = await file.stat();
      return new StreamableFile(file.createReadStream(), { length: size });
    } catch {
      throw new HttpException('DHCP is not served here, so there is no program either\n', 404);
    }
  }
}
