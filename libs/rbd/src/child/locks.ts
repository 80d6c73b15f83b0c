import type { ImageRef, LockOwner } from '../types.ts';
import type { Context } from './context.ts';
import { grow, splitStrings, type Out, type Pointer } from './native.ts';
import { withReadOnlyImage } from './open-image.ts';
import { radosBlocklistAdd, radosWaitForLatestMap } from './rados.ts';
import { rbdBreakLock, rbdListLockers } from './rbd.ts';

export const lockOwners = ({ cluster }: Context, ref: ImageRef): Promise<LockOwner[]> =>
  withReadOnlyImage(cluster, ref, lockOwnersOf);

/** The exclusive lock is an advisory lock internally. As such it can be read without opening the image for writing. */
export function lockOwnersOf(image: Pointer): Promise<LockOwner[]> {
  return grow(4096, async (size) => {
    const texts = Array.from({ length: 4 }, () => Buffer.alloc(size[0]));
    const lengths = texts.map((): Out<number> => [size[0]]);
    const [tag, clients, cookies, addresses] = texts as [Buffer, Buffer, Buffer, Buffer];
    const [tagLength, clientsLength, cookiesLength, addressesLength] = lengths as [
      Out<number>,
      Out<number>,
      Out<number>,
      Out<number>,
    ];
    await rbdListLockers(
      image,
      [0],
      tag,
      tagLength,
      clients,
      clientsLength,
      cookies,
      cookiesLength,
      addresses,
      addressesLength,
    );
    const cookieList = splitStrings(cookies, cookiesLength[0]);
    const addressList = splitStrings(addresses, addressesLength[0]);
    return splitStrings(clients, clientsLength[0]).map((client, index) => ({
      client,
      cookie: cookieList[index]!,
      address: addressList[index]!,
    }));
  });
}

/**
 * Takes the exclusive lock from a client. First the OSDs must refuse whatever that client still sends: otherwise its late writes would mix
 * with those of the next owner.
 */
export async function breakLock({ cluster }: Context, ref: ImageRef, owner: LockOwner): Promise<void> {
  await radosBlocklistAdd(cluster.pointer, owner.address, 0);
  // Our requests carry the map that has the entry, and no OSD executes them before it has that map, too.
  await radosWaitForLatestMap(cluster.pointer);
  await withReadOnlyImage(cluster, ref, (image) => rbdBreakLock(image, owner.client, owner.cookie));
}
