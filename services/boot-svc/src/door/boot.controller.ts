import { fields } from '@m2/contracts';
import { type Kit, KIT } from '@m2/service-kit';
import { Body, Controller, Get, Header, HttpCode, HttpException, Inject, Ip, Param, Post, Query } from '@nestjs/common';
import type { BootConfiguration } from '../config.js';
import { Boots, type ScriptAnswer } from '../configs/boots.js';
import { bootFromDisk } from '../scripts/boot-from-disk.js';
import { askAgain, refuse } from '../scripts/refusals.js';
import { ForNodes } from './nodes-only.js';

/** What nodes see of M2. Every answer is for one nic at one address. */
@Controller('boot')
export class BootController {
  constructor(
    @Inject(KIT) private readonly kit: Kit<BootConfiguration>,
    @Inject(Boots) private readonly boots: Boots,
  ) {}

  /** Firmware cannot read a status: whatever happens, it gets a script that says so on its console. */
  @Get('ipxe')
  @ForNodes()
  @Header('content-type', 'text/plain; charset=utf-8')
  async script(@Query('mac') given: unknown, @Ip() address: string): Promise<string> {
    const mac = macOf(given);
    try {
      return scriptOf(await this.boots.script(mac, plain(address)), this.again);
    } catch (error) {
      this.kit.log.error({ err: error, mac }, 'a boot script could not be built; the node will ask again');
      return askAgain(this.again);
    }
  }

  private get again(): string {
    return `${this.kit.config.bootUrl}/boot/ipxe`;
  }

  @Get('metadata')
  @ForNodes()
  @Header('content-type', 'text/plain; charset=utf-8')
  async metadata(@Query('mac') given: unknown, @Ip() address: string): Promise<string> {
    const found = await this.boots.metadata(macOf(given), plain(address));
    if (!found) throw new HttpException('No boot is in progress for this nic\n', 404);
    return `node=${found.node}\nphone_home=${found.phoneHome}\n`;
  }

  @Post('phone-home/:token')
  @HttpCode(200)
  @ForNodes()
  @Header('content-type', 'text/plain; charset=utf-8')
  async phoneHome(@Param('token') token: string, @Body() report: unknown, @Ip() address: string): Promise<string> {
    if (!(await this.boots.phoneHome(token, plain(address), report)))
      throw new HttpException('This token is not, or no longer, valid\n', 404);
    return 'welcome\n';
  }
}

function scriptOf(answer: ScriptAnswer, again: string): string {
  if ('later' in answer) return askAgain(again);
  if ('refused' in answer) return refuse();
  const { config, login } = answer.boot;
  return bootFromDisk({
    node: config.node_name,
    initiator: login.initiator,
    target: login.iqn,
    portals: login.portals,
    chap: { user: login.user, password: login.secret },
  });
}

function macOf(given: unknown): string {
  const parsed = fields.mac.safeParse(given);
  if (!parsed.success) throw new HttpException('mac must be a MAC address\n', 400);
  return parsed.data;
}

/** A socket that listens on both families shows an IPv4 peer as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). */
const plain = (address: string) => address.replace(/^::ffff:/, '');
