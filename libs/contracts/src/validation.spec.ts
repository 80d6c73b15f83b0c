import { describe, expect, it } from 'vitest';
import { M2Error } from './errors/index.js';
import { type AnyUseCase, useCases } from './use-cases/index.js';
import { checkInput } from './validation.js';

const saidOf = (useCase: AnyUseCase, input: unknown): string => {
  try {
    checkInput(useCase, input);
  } catch (error) {
    expect(M2Error.from(error).code).toBe('request.invalid');
    return M2Error.from(error).detail;
  }
  return 'nothing';
};

describe('an input that is wrong', () => {
  const node = {
    name: 'n',
    nics: [{ label: 'eth0', mac: '52:54:00:12:34:56' }],
    bmc: { address: 'b', user: 'u', password: 'p' },
  };

  it.each<[AnyUseCase, unknown, string]>([
    [useCases.diskCreate, { name: 'd' }, 'give either image or disk'],
    [useCases.diskCreate, { image: 'i' }, 'name: is missing'],
    [useCases.diskCreate, { name: 'd', image: 7 }, 'image: must be a name or an identifier'],
    [useCases.diskCreate, { name: 'd', image: 'i', sizebytes: 1 }, 'sizebytes: is not known; sizeBytes is'],
    [useCases.diskCreate, { name: 'd', image: 'i', sizeBytes: '1' }, 'sizeBytes: must be a number'],
    [useCases.diskCreate, { name: 'd', image: 'i', sizeBytes: -1 }, 'sizeBytes: must be at least 0'],
    [useCases.diskCreate, { name: 'd', image: 'i', sizeBytes: 1.5 }, 'sizeBytes: must be a whole number'],
    [useCases.diskUpdate, { disk: 'd' }, 'say what is to be changed'],
    [useCases.projectCreate, null, 'must be an object'],
    [useCases.projectCreate, [], 'must be an object'],
    [useCases.projectList, { limit: 501 }, 'limit: must be at most 500'],
    [useCases.projectList, { status: 'x' }, 'status: is not known; known are cursor, limit'],
    [useCases.eventList, { type: '%' }, 'type: must be a type, or its beginning and *'],
    [useCases.eventList, { type: 'gateway.project' }, 'type: is of no event; GET /v1/asyncapi.json has all types'],
    [useCases.eventList, { type: 'hill.*' }, 'type: is of no event; GET /v1/asyncapi.json has all types'],
    [useCases.whoami, { x: 1 }, 'x: is not known; there is nothing to say here'],
    [useCases.operationShow, { id: '7' }, 'id: must be an identifier (a UUID)'],
    [
      useCases.operationList,
      { state: 'done' },
      'state: must be one of running, undoing, succeeded, failed, cancelled, needs_attention, abandoned',
    ],
    [useCases.nodeRegister, { ...node, nics: [] }, 'nics: must have at least 1 entry'],
    [
      useCases.nodeRegister,
      { ...node, nics: [{ label: 'eth0', MAC: 'x' }] },
      'nics.0.MAC: is not known; mac is; nics.0.mac: is missing',
    ],
    [
      useCases.nodeRegister,
      { ...node, bmc: { ...node.bmc, pass: 'x' } },
      'bmc.pass: is not known; known are driver, address, port, user, password, cipherSuites',
    ],
    [
      useCases.imageImport,
      { name: 'i', source: { kind: 'pipe' } },
      'source.kind: must be one of file, url, volume, upload, image, disk',
    ],
    [useCases.imageImport, { name: 'i', source: { kind: 'file', path: '' } }, 'source.path: must not be empty'],
    [
      useCases.imageImport,
      { name: 'i', source: { kind: 'file', path: '/a', url: 'x' } },
      'source.url: is not known; known are kind, path',
    ],
    [useCases.diskContent, { disk: 'd', since: 'v1' }, 'since goes with format=rbd-diff'],
  ])('of $name, %j, is told what: %s', (useCase, input, said) => {
    expect(saidOf(useCase, input)).toBe(said);
  });

  it('names every field, for programs too', () => {
    let about: unknown;
    try {
      checkInput(useCases.nodeRegister, { name: 'N', nics: [], bmc: {} });
    } catch (error) {
      about = M2Error.from(error).about;
    }
    const { issues } = about as { issues: { at: string }[] };
    expect(issues.map(({ at }) => at)).toEqual(['name', 'nics', 'bmc.address', 'bmc.user', 'bmc.password']);
  });
});

describe('an input that is right', () => {
  it('is answered with its defaults', () => {
    expect(checkInput(useCases.diskDelete, { disk: 'd' })).toEqual({ disk: 'd', purge: false });
    expect(checkInput(useCases.diskUpdate, { disk: 'd', name: 'e' })).toEqual({ disk: 'd', name: 'e' });
  });
});
