import { randomBytes } from 'node:crypto';
import { shellWord } from '../node/qemu-node.js';

export interface BmcAccount {
  user: string;
  password: string;
}

/** ipmi_sim's files know no escapes, and IPMI 1.5 passwords have 16 bytes at most. */
function checked(what: string, value: string, pattern: RegExp): string {
  if (!pattern.test(value)) throw new Error(`The BMC's ${what} ${JSON.stringify(value)} is not of the form ${pattern}`);
  return value;
}

/** The file `ipmi_lan(5)` describes: one LAN channel, one administrator, and the script that is asked about power. */
export function lanConfig(bmc: BmcAccount & { name: string; address: string; port: number; power: string[] }): string {
  const name = checked('name', bmc.name, /^[\w.-]{1,63}$/);
  const user = checked('user', bmc.user, /^[\w.-]{1,16}$/);
  // The message must not show the password.
  if (!/^[\w.+=-]{1,16}$/.test(bmc.password))
    throw new Error('The password of a BMC has 1–16 of A-Z a-z 0-9 _ . + = -');
  const power = checked('power script', bmc.power.map(shellWord).join(' '), /^[^"\\\n]+$/);
  return `name "${name}"
set_working_mc 0x20
  startlan 1
    addr ${checked('address', bmc.address, /^[\d.]+$/)} ${bmc.port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid ${randomBytes(16).toString('hex')}
  endlan
  chassis_control "${power}"
  user 1 true "" "" user 10 none md2 md5 straight
  user 2 true "${user}" "${bmc.password}" admin 10 none md2 md5 straight
`;
}

/** One management controller at the usual address 0x20, with a system event log (`ipmi_sim_cmd(5)`). */
export const SIMULATOR_COMMANDS = `mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
sel_enable 0x20 1000 0x0a
`;
