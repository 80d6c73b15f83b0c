import { IpmiDriver } from '@m2/hil-adapter/drivers';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Responder, startResponder } from './responder.js';

let responder: Responder;
const driver = new IpmiDriver();
beforeAll(async () => {
  responder = await startResponder({ user: 'admin', password: 'secret' });
});
afterAll(async () => {
  await driver.close();
  await responder?.close();
});

const bmc = (password = 'secret') => ({
  driver: 'ipmi' as const,
  address: '127.0.0.1',
  port: responder.port,
  user: 'admin',
  password,
  cipherSuites: [3],
});

it('is powered on and off by ipmitool, and refuses another password', async () => {
  expect(await driver.state(bmc(), { deadlineMs: 20_000 })).toBe('off');
  await driver.bootFromNetwork(bmc(), { deadlineMs: 20_000, firmware: 'bios' });
  expect(await driver.state(bmc(), { deadlineMs: 20_000 })).toBe('on');
  await driver.ensureOff(bmc(), { deadlineMs: 20_000 });
  expect(await driver.state(bmc(), { deadlineMs: 20_000 })).toBe('off');
  await expect(driver.state(bmc('other'), { deadlineMs: 20_000 })).rejects.toMatchObject({ code: 'bmc.auth_failed' });
});
