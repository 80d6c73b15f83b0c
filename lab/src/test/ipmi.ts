import type { BmcAddress } from '../bmc/bmc.js';
import { run } from '../process/run.js';

/** Runs ipmitool against a BMC; the password goes through the environment. */
export async function ipmi(bmc: BmcAddress, ...command: string[]): Promise<string> {
  const where = ['-I', 'lanplus', '-C', String(bmc.cipherSuite), '-H', bmc.address, '-p', String(bmc.port)];
  const args = [...where, '-U', bmc.user, '-E', '-N', '5', '-R', '2', ...command];
  return (await run('ipmitool', args, { env: { IPMI_PASSWORD: bmc.password } })).trim();
}
