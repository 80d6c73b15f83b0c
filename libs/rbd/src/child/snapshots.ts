import type { SnapRef } from '../types.ts';
import type { Context } from './context.ts';
import { withWritableImage } from './open-image.ts';
import { rbdSnapCreate, rbdSnapProtect, rbdSnapRemove, rbdSnapUnprotect } from './rbd.ts';

const operation =
  (call: typeof rbdSnapCreate) =>
  async ({ cluster }: Context, { snap, ...image }: SnapRef): Promise<void> => {
    await withWritableImage(cluster, image, (opened) => call(opened, snap));
  };

export const snapCreate = operation(rbdSnapCreate);
export const snapProtect = operation(rbdSnapProtect);
export const snapUnprotect = operation(rbdSnapUnprotect);
export const snapRemove = operation(rbdSnapRemove);
