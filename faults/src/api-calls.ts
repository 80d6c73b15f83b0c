import { purgeDisk, type TestInstallation, succeeded } from './installation.js';

type ImageSource =
  | { kind: 'file'; path: string }
  | { kind: 'url'; url: string }
  | { kind: 'upload' }
  | { kind: 'image'; image: string }
  | { kind: 'disk'; disk: string; tag?: string };

/** The requests that users make about images and disks. Each returns when it is accepted, before it is done. */
export const apiCallsOf = (installation: TestInstallation) => {
  const { client, stage } = installation;
  const { project, image: file } = stage;
  const of = (disk: string) => ({ project, disk });
  const importImage = (name: string, source: ImageSource = { kind: 'file', path: file.path }) =>
    client.call('imageImport', { params: { project }, body: { name, source } });
  return {
    importImage,
    updateImage: (image: string, body: object) => client.call('imageUpdate', { params: { project, image }, body }),
    exportImage: (image: string, volume: string) =>
      client.call('imageExport', { params: { project, image }, body: { volume } }),
    deleteImage: (image: string) => client.call('imageDelete', { params: { project, image } }),
    createDisk: (name: string, from: { image: string } | { disk: string; tag?: string } = { image: 'golden' }) =>
      client.call('diskCreate', { params: { project }, body: { name, ...from } }),
    updateDisk: (disk: string, body: { name?: string; sizeBytes?: number }) =>
      client.call('diskUpdate', { params: of(disk), body }),
    tag: (disk: string, name: string) => client.call('diskTag', { params: of(disk), body: { name } }),
    untag: (disk: string, tag: string) => client.call('diskUntag', { params: { ...of(disk), tag } }),
    rollback: (disk: string, tag: string) => client.call('diskRollback', { params: of(disk), body: { tag } }),
    flatten: (disk: string) => client.call('diskFlatten', { params: of(disk) }),
    trash: (disk: string) => client.call('diskDelete', { params: of(disk) }),
    restore: (disk: string) => client.call('diskRestore', { params: of(disk), body: {} }),
    purge: (disk: string) => purgeDisk(installation, disk),
    disk: (disk: string) => client.call('diskShow', { params: of(disk) }),
    image: (image: string) => client.call('imageShow', { params: { project, image } }),
    tags: async (disk: string) =>
      (await client.list('diskTags', { params: of(disk) })).items.map(({ name }) => name).sort(),
  };
};
export type ApiCalls = ReturnType<typeof apiCallsOf>;

/** Removes every disk without a holder, in the trash or not, and every image but `golden`. */
export async function tidy(installation: TestInstallation): Promise<void> {
  await tidyDisks(installation);
  await tidyImages(installation);
}

export async function tidyDisks(installation: TestInstallation): Promise<void> {
  const { client, stage } = installation;
  const params = { project: stage.project };
  const api = apiCallsOf(installation);
  const present = (await client.list('diskList', { params })).items;
  const trashed = (await client.list('diskList', { params, query: { trashed: 'true' } })).items;
  // The youngest first: a fork before the disk that it was made from.
  const disks = [...present.filter(({ holder }) => !holder), ...trashed].sort((a, b) => (a.id < b.id ? 1 : -1));
  for (const { id } of disks) await succeeded(installation, await api.purge(id));
}

export async function tidyImages(installation: TestInstallation): Promise<void> {
  const { client, stage } = installation;
  const { project } = stage;
  const api = apiCallsOf(installation);
  const { items } = await client.list('imageList', { params: { project } });
  for (const { id, name } of items) if (name !== 'golden') await succeeded(installation, await api.deleteImage(id));
}
