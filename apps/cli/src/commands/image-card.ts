import type { Image } from '@m2/contracts';
import type { App } from '../app.js';
import { formatBytes } from '../output/units.js';

/** How large it is; of one that is on its way, how much has come. */
export const sizeOf = ({ sizeBytes, progress }: Image) => {
  if (sizeBytes !== null) return formatBytes(sizeBytes);
  return progress ? `${formatBytes(progress.done)} so far` : null;
};

export const imageCard = (app: App) => (image: Image) => {
  const { metadata } = image;
  return app.card({
    name: image.name,
    id: image.id,
    state: image.state,
    format: image.format,
    size: sizeOf(image),
    sha256: image.sha256,
    for: image.sharedWith.length > 0 ? `${image.visibility}: ${image.sharedWith.join(', ')}` : image.visibility,
    'operating system': metadata.operatingSystem,
    architecture: metadata.architecture,
    'default user': metadata.defaultUser,
    'user data': metadata.userData ? 'yes' : 'no',
    ...(image.parent && { 'made from': `${image.parent.kind} ${image.parent.id}` }),
    created: image.createdAt,
    ...(image.error && { error: `${image.error.detail} (${image.error.code})` }),
  });
};
