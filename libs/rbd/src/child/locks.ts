import type { ImageRef, LockOwner } from '../types.ts';
import type { Context } from './context.ts';
import { grow, splitStrings, type Out, type Pointer } from './native.ts';
import { withReadOnlyImage } from './open-image.ts';
import { rbdListLockers } from './rbd.ts';

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
