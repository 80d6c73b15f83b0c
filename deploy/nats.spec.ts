import { natsConfig } from '@m2/contracts';
import { expect, it } from 'vitest';

/** After a change of the catalogue: `npx vitest run --project unit deploy -u` writes the file anew. */
it('deploys NATS with the permissions that the catalogue says', async () => {
  const config = natsConfig({ listen: '0.0.0.0:4222', storeDirectory: '/data', include: 'passwords.conf' });
  await expect(config).toMatchFileSnapshot('nats/nats.conf');
});
