import { damaged, inOtherFiles, unsupported } from './vmdk-header.js';

const types = ['monolithicSparse', 'streamOptimized'];
const noParent = 'ffffffff';

/**
 * Refuses an embedded descriptor that makes the image depend on another file. QEMU searches all of the text for the parent, so this does
 * the same. Fields: VMware, Virtual Disk Format 5.0, "The Descriptor File". Errors: `image.has_backing_file`, `image.unsupported_format`,
 * `image.not_an_image`.
 */
export function checkVmdkDescriptor(descriptor: Buffer): void {
  const text = descriptor.toString('latin1');
  if (text.startsWith('\0')) throw inOtherFiles(); // one of several extents
  if (/parentFileNameHint/i.test(text)) throw inOtherFiles();
  const parents = [...text.matchAll(/parentCID\s*=\s*(\w*)/gi)];
  if (parents.some(([, cid]) => cid?.toLowerCase() !== noParent)) throw inOtherFiles();

  const createTypes = [...text.matchAll(/createType\s*=\s*"([^"]*)"/gi)].map(([, type = '']) => type);
  const extents = [...text.matchAll(/^[ \t]*(?:RW|RDONLY|NOACCESS)\s+\d+\s+(\w+)\s*(?:"([^"]*)")?/gim)];
  if (parents.length === 0 || createTypes.length !== 1 || extents.length === 0) {
    throw damaged('its descriptor is not complete');
  }
  const type = createTypes[0]!;
  if (!types.includes(type)) {
    throw unsupported(`This is a VMDK of the type ${JSON.stringify(type.slice(0, 40))}, not ${types.join(' or ')}.`);
  }
  // The one extent is this file, under the name that it once had.
  const [, kind, name] = extents[0]!;
  if (extents.length > 1 || kind !== 'SPARSE' || !name || /[/\\]/.test(name)) throw inOtherFiles();
}
