import koffi from 'koffi';
import type { Context } from './context.ts';
import { NativeError, type Out, type Pointer } from './native.ts';
import {
  radosCreateReadOp,
  radosOmapGetEnd,
  radosOmapGetNext,
  radosReadOpOmapGetVals,
  radosReadOpOperate,
  radosReleaseReadOp,
} from './rados.ts';

/** The object that has the names of a namespace's images, in order, as keys (librbd, cls_rbd.cc: RBD_DIRECTORY, dir_key_for_name). */
const directory = 'rbd_directory';
const keyOf = (name: string) => `name_${name}`;
const pageSize = 32;

/**
 * The names of images that are `name`, or begin with `name` and a dot. Unlike `list` it costs the same however many images there are; and an
 * image that librbd has begun to remove is not among them.
 */
export async function namesLike(
  { cluster }: Context,
  pool: string,
  namespace: string | undefined,
  name: string,
): Promise<string[]> {
  const ioctx = await cluster.ioctx(pool, namespace);
  // In the order of the bytes, so the first that begins like it is the name itself.
  const [own, longer] = await Promise.all([keysFrom(ioctx, '', keyOf(name), 1), allKeysFrom(ioctx, keyOf(`${name}.`))]);
  return [...own.filter((key) => key === keyOf(name)), ...longer].map((key) => key.slice(keyOf('').length));
}

async function allKeysFrom(ioctx: Pointer, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for (;;) {
    const page = await keysFrom(ioctx, keys.at(-1) ?? '', prefix, pageSize);
    keys.push(...page);
    if (page.length < pageSize) return keys;
  }
}

async function keysFrom(ioctx: Pointer, after: string, prefix: string, max: number): Promise<string[]> {
  const operation = radosCreateReadOp();
  // An iterator, whether there is more, and this read's own result.
  const memory = koffi.alloc('uint64_t', 3) as Pointer;
  try {
    radosReadOpOmapGetVals(operation, after, prefix, max, memory, memory + 8n, memory + 16n);
    await radosReadOpOperate(operation, ioctx, directory, 0);
    const iterator = koffi.decode(memory, 'void *') as Pointer;
    try {
      return [...keysOf(iterator)];
    } finally {
      radosOmapGetEnd(iterator);
    }
  } catch (error) {
    // There never was an image.
    if (error instanceof NativeError && error.errno === koffi.os.errno['ENOENT']) return [];
    throw error;
  } finally {
    koffi.free(memory);
    radosReleaseReadOp(operation);
  }
}

function* keysOf(iterator: Pointer): Iterable<string> {
  for (;;) {
    const [key, value, keyLength, valueLength]: [Out<Pointer | null>, Out<Pointer | null>, Out<number>, Out<number>] = [
      [null],
      [null],
      [0],
      [0],
    ];
    radosOmapGetNext(iterator, key, value, keyLength, valueLength);
    if (key[0] === null) return;
    yield Buffer.from(koffi.view(key[0], keyLength[0])).toString();
  }
}
