import { describe, expect, it } from 'vitest';
import { routes } from './routes.js';
import { gather } from './sent.js';

const params = { project: 'lab', disk: 'web-1', image: 'debian' };

describe('the input of a use case', () => {
  it('is what the path, and the body or the query, say', () => {
    expect(gather(routes.diskUpdate, { params, query: {}, body: { name: 'web-2' } })).toEqual({
      disk: 'web-1',
      name: 'web-2',
    });
    expect(gather(routes.diskDelete, { params, query: { purge: 'true' }, body: undefined })).toEqual({
      disk: 'web-1',
      purge: true,
    });
    expect(gather(routes.projectList, { params, query: { limit: '7', cursor: '7' }, body: undefined })).toEqual({
      limit: 7,
      cursor: '7',
    });
  });

  it('keeps the project that an image is moved to apart from the one in the path', () => {
    expect(gather(routes.imageUpdate, { params, query: {}, body: { project: 'db' } })).toEqual({
      image: 'debian',
      project: 'db',
    });
    expect(gather(routes.imageUpdate, { params, query: {}, body: {} })).toEqual({ image: 'debian' });
  });

  it('is not said twice, nor in another place', () => {
    const twice = () => gather(routes.diskUpdate, { params, query: {}, body: { disk: 'other' } });
    expect(twice).toThrow('disk: is in the path, and belongs nowhere else');
    const elsewhere = () => gather(routes.projectCreate, { params: {}, query: { name: 'x' }, body: {} });
    expect(elsewhere).toThrow('name: is in the query, and belongs into the body');
  });

  it('leaves what it cannot read to be found wrong', () => {
    expect(gather(routes.diskDelete, { params, query: { purge: 'yes', Purge: 'true' }, body: undefined })).toEqual({
      disk: 'web-1',
      purge: 'yes',
      Purge: 'true',
    });
    expect(gather(routes.projectList, { params, query: { limit: '1e3' }, body: undefined })).toEqual({ limit: '1e3' });
    for (const body of ['text', [], 7])
      expect(gather(routes.projectCreate, { params: {}, query: {}, body })).toEqual(body);
  });
});
