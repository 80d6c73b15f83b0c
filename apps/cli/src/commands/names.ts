import type { App } from '../app.js';
import { ApiError } from '../errors.js';

/** A name, or the identifier itself where the name cannot be had: the thing is gone, or is not for the one who asks. */
async function nameOr(id: string, look: () => Promise<string | undefined>): Promise<string> {
  try {
    return (await look()) ?? id;
  } catch (error) {
    if (error instanceof ApiError) return id;
    throw error;
  }
}

export const projectName = (app: App, id: string) =>
  nameOr(id, async () => (await app.call('projectShow', { params: { project: id } })).name);

export const imageName = (app: App, project: string, id: string) =>
  nameOr(id, async () => (await app.call('imageShow', { params: { project, image: id } })).name);

export const diskName = (app: App, project: string, id: string) =>
  nameOr(id, async () => (await app.call('diskShow', { params: { project, disk: id } })).name);

export const tagName = (app: App, project: string, disk: string, id: string) =>
  nameOr(id, async () => {
    const { items } = await (await app.client()).list('diskTags', { params: { project, disk } });
    return items.find((tag) => tag.id === id)?.name;
  });

/** The node of a provision: a provision has no name of its own. */
export const provisionNode = (app: App, project: string, id: string) =>
  nameOr(id, async () => (await app.call('provisionShow', { params: { project, id } })).nodeName);
