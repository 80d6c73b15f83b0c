import type { Image } from '@m2/contracts';
import type { App } from '../app.js';
import { formatBytes } from '../output/units.js';
import { diskName, imageName, projectName } from './names.js';

/** How large it is; of one that is on its way, how much has come. */
export const sizeOf = ({ sizeBytes, progress }: Image) => {
  if (sizeBytes !== null) return formatBytes(sizeBytes);
  return progress ? `${formatBytes(progress.done)} so far` : null;
};

/** One image, for people: with the names of whom it is for and of what it was made from. */
export async function imageCard(app: App, image: Image): Promise<string> {
  const { metadata, parent, project } = image;
  const [madeFrom, ...sharedWith] = await Promise.all([
    parent && (parent.kind === 'image' ? imageName : diskName)(app, project, parent.id),
    ...image.sharedWith.map((id) => projectName(app, id)),
  ]);
  return app.card({
    name: image.name,
    id: image.id,
    state: image.state,
    format: image.format,
    size: sizeOf(image),
    sha256: image.sha256,
    for: sharedWith.length > 0 ? `${image.visibility}: ${sharedWith.join(', ')}` : image.visibility,
    'operating system': metadata.operatingSystem,
    architecture: metadata.architecture,
    'default user': metadata.defaultUser,
    'user data': metadata.userData ? 'yes' : 'no',
    ...(parent && { 'made from': `${parent.kind} ${madeFrom}` }),
    created: image.createdAt,
    ...(image.error && { error: `${image.error.detail} (${image.error.code})` }),
  });
}
