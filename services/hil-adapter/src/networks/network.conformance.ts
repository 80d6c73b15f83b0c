import { describe, expect, it } from 'vitest';
import type { Attachment, NetworkDriver } from './network.port.js';

/** What every network driver must do, on real equipment. `network` is one that the driver has, `attachment` a nic cabled to it. */
export function networkConformance(name: string, open: () => { driver: NetworkDriver; attachment: Attachment }): void {
  describe(`network driver ${name}`, () => {
    it('attaches, and observes it', async () => {
      const { driver, attachment } = open();
      await driver.ensureAttached(attachment);
      expect(await driver.observe(attachment)).toBe('attached');
    });

    it('may be told twice', async () => {
      const { driver, attachment } = open();
      await driver.ensureAttached(attachment);
      await driver.ensureAttached(attachment);
      expect(await driver.observe(attachment)).toBe('attached');
      await driver.ensureDetached(attachment);
      await expect(driver.ensureDetached(attachment)).resolves.toBeUndefined();
    });

    it('says honestly whether a detached nic is out of the network', async () => {
      const { driver, attachment } = open();
      await driver.ensureAttached(attachment);
      await driver.ensureDetached(attachment);
      expect(await driver.observe(attachment)).toBe(driver.isolates ? 'detached' : 'attached');
    });

    it('refuses a network that it does not have, and names it', async () => {
      const { driver, attachment } = open();
      const elsewhere = { ...attachment, network: 'no-such-network' };
      for (const method of ['ensureAttached', 'ensureDetached', 'observe'] as const) {
        await expect(driver[method](elsewhere)).rejects.toMatchObject({
          code: 'network.not_found',
          message: expect.stringContaining('no-such-network') as string,
        });
      }
    });
  });
}
