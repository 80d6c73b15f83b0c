import koffi, { type TypeObject } from 'koffi';
import { grow, type Out, type Pointer } from './native.ts';

/** The structs of rbd/librbd.h that functions fill. */

export const imageInfo = koffi.struct('RbdImageInfo', {
  size: 'uint64_t',
  obj_size: 'uint64_t',
  num_objs: 'uint64_t',
  order: 'int',
  block_name_prefix: koffi.array('char', 24),
  parent_pool: 'int64_t',
  parent_name: koffi.array('char', 96),
});

/** A struct, and the function that frees what librbd allocated for `count` of them. */
export interface Struct<T> {
  type: TypeObject;
  cleanUp(memory: Pointer, count: number): void;
  /** Only for the type of its values. */
  shape?: T;
}

const library = koffi.load('librbd.so.1');
const cleaner = (name: string) =>
  library.func(`void ${name}(void *memory, size_t count)`) as (memory: Pointer, count: number) => void;
const singleCleaner = (name: string) => {
  const clean = library.func(`void ${name}(void *memory)`) as (memory: Pointer) => void;
  return (memory: Pointer) => clean(memory);
};

export const imageSpec: Struct<{ id: string; name: string }> = {
  type: koffi.struct('RbdImageSpec', { id: 'char *', name: 'char *' }),
  cleanUp: cleaner('rbd_image_spec_list_cleanup'),
};

export const linkedImageSpec: Struct<{
  pool_id: number;
  pool_name: string;
  pool_namespace: string;
  image_id: string;
  image_name: string;
  trash: boolean;
}> = {
  type: koffi.struct('RbdLinkedImageSpec', {
    pool_id: 'int64_t',
    pool_name: 'char *',
    pool_namespace: 'char *',
    image_id: 'char *',
    image_name: 'char *',
    trash: 'bool',
  }),
  cleanUp: cleaner('rbd_linked_image_spec_list_cleanup'),
};

export const snapSpec: Struct<{ id: number; namespace_type: number; name: string }> = {
  type: koffi.struct('RbdSnapSpec', { id: 'uint64_t', namespace_type: 'int', name: 'char *' }),
  cleanUp: singleCleaner('rbd_snap_spec_cleanup'),
};

export const snapInfo: Struct<{ id: number; size: number; name: string }> = {
  type: koffi.struct('RbdSnapInfo', { id: 'uint64_t', size: 'uint64_t', name: 'const char *' }),
  cleanUp: singleCleaner('rbd_snap_list_end'),
};

export const watcher: Struct<{ addr: string; id: number; cookie: number | bigint }> = {
  type: koffi.struct('RbdImageWatcher', { addr: 'char *', id: 'int64_t', cookie: 'uint64_t' }),
  cleanUp: cleaner('rbd_watchers_list_cleanup'),
};

/** time_t has eight bytes wherever Ceph is packaged for Node. */
export const trashInfo: Struct<{ id: string; name: string; source: number }> = {
  type: koffi.struct('RbdTrashImageInfo', {
    id: 'char *',
    name: 'char *',
    source: 'int',
    deletion_time: 'int64_t',
    deferment_end_time: 'int64_t',
  }),
  cleanUp: cleaner('rbd_trash_list_cleanup'),
};

/** Runs `fill` with memory for one struct and returns its content. */
export async function readOne<A, B>(
  [a, b]: [Struct<A>, Struct<B>],
  fill: (a: Pointer, b: Pointer) => Promise<unknown>,
): Promise<[A, B]> {
  const memory = [koffi.alloc(a.type, 1) as Pointer, koffi.alloc(b.type, 1) as Pointer] as const;
  try {
    await fill(...memory);
    const values: [A, B] = [koffi.decode(memory[0], a.type) as A, koffi.decode(memory[1], b.type) as B];
    a.cleanUp(memory[0], 1);
    b.cleanUp(memory[1], 1);
    return values;
  } finally {
    for (const pointer of memory) koffi.free(pointer);
  }
}

/** Runs `fill` with memory for a list, larger until it fits; `fill` returns the number of entries. */
export function readList<T>(
  struct: Struct<T>,
  fill: (memory: Pointer, count: Out<number>) => Promise<number>,
): Promise<T[]> {
  return grow(64, async (size) => {
    const memory = koffi.alloc(struct.type, size[0]) as Pointer;
    try {
      const count = await fill(memory, size);
      const values = count === 0 ? [] : (koffi.decode(memory, struct.type, count) as T[]);
      struct.cleanUp(memory, count);
      return values;
    } finally {
      koffi.free(memory);
    }
  });
}
