import { describe, expect, it } from 'vitest';
import { exitCodes } from '../exit-codes.js';
import { events, ids, operationOf, samples } from '../test/gateway.js';
import { accept, operationPath, start } from '../test/setup.js';

describe('deprovision', () => {
  const line = `DELETE /v1/projects/lab/provisions/${ids.provision}`;
  const withProvisions = async (items: object[]) => {
    const { gateway, person } = await start();
    gateway.on('GET /v1/projects/lab/provisions', () => ({ items }));
    gateway.on(line, accept).on(operationPath, events(operationOf('succeeded', {}, { kind: 'deprovision' })));
    return { gateway, person };
  };

  it('takes the name of a node, and keeps the disk', async () => {
    const { gateway, person } = await withProvisions([samples.provision]);
    expect((await person.m2(['deprovision', 'node-1'])).code).toBe(0);
    expect(gateway.asked(line)[0]?.query.get('disk')).toBe('keep');
  });

  it('deletes the disk when that is asked twice', async () => {
    const { gateway, person } = await withProvisions([samples.provision]);
    expect((await person.m2(['deprovision', 'node-1', '--delete-disk'])).code).toBe(exitCodes.usage);
    expect((await person.m2(['deprovision', 'node-1', '--delete-disk', '--yes'])).code).toBe(0);
    expect(gateway.asked(line).map(({ query }) => query.get('disk'))).toEqual(['delete']);
  });

  it('does nothing when no provision uses the node, or more than one', async () => {
    const ended = { ...samples.provision, endedAt: samples.project.createdAt };
    const none = await withProvisions([ended]);
    expect((await none.person.m2(['deprovision', 'node-1'])).code).toBe(exitCodes.notFound);
    const two = await withProvisions([samples.provision, { ...samples.provision, id: ids.operation }]);
    const { code, err } = await two.person.m2(['deprovision', 'node-1']);
    expect(code).toBe(exitCodes.usage);
    expect(err).toContain(ids.operation);
  });
});
