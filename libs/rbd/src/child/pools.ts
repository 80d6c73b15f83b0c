import koffi from 'koffi';
import type { MonAnswer, PoolStats } from '../types.ts';
import type { Context } from './context.ts';
import { grow, NativeError, splitStrings, type Out, type Pointer } from './native.ts';
import { radosBufferFree, radosMonCommand, radosPoolLookup } from './rados.ts';
import { rbdNamespaceCreate, rbdNamespaceExists, rbdNamespaceList, rbdNamespaceRemove } from './rbd.ts';

export const poolId = ({ cluster }: Context, pool: string): Promise<number> => radosPoolLookup(cluster.pointer, pool);

export async function poolStats(context: Context, pool: string): Promise<PoolStats> {
  const { out } = await monCommand(context, { prefix: 'df', format: 'json' });
  const { pools } = JSON.parse(out.toString()) as {
    pools: { name: string; stats: { stored: number; max_avail: number } }[];
  };
  const found = pools.find(({ name }) => name === pool);
  if (!found) throw new NativeError('df', koffi.os.errno['ENOENT']!, `no pool ${pool}`);
  return { usedBytes: found.stats.stored, availableBytes: found.stats.max_avail };
}

export async function namespaceCreate({ cluster }: Context, pool: string, namespace: string): Promise<void> {
  await rbdNamespaceCreate(await cluster.ioctx(pool), namespace);
}

export async function namespaceRemove({ cluster }: Context, pool: string, namespace: string): Promise<void> {
  await rbdNamespaceRemove(await cluster.ioctx(pool), namespace);
}

export async function namespaceExists({ cluster }: Context, pool: string, namespace: string): Promise<boolean> {
  const exists: Out<boolean> = [false];
  await rbdNamespaceExists(await cluster.ioctx(pool), namespace, exists);
  return exists[0];
}

export async function namespaceList({ cluster }: Context, pool: string): Promise<string[]> {
  const ioctx = await cluster.ioctx(pool);
  return grow(4096, async (size) => {
    const names = Buffer.alloc(size[0]);
    await rbdNamespaceList(ioctx, names, size);
    return splitStrings(names, size[0]);
  });
}

/** Sends a command to the monitors, as `ceph` does. `input` is the content of the command line's `-i` file. */
export async function monCommand(
  { cluster }: Context,
  command: Record<string, unknown>,
  input = '',
): Promise<MonAnswer> {
  const data = Buffer.from(input);
  const out: Out<Pointer | null> = [null];
  const outLength: Out<number> = [0];
  const status: Out<Pointer | null> = [null];
  const statusLength: Out<number> = [0];
  const text = () => takeBuffer(status[0], statusLength[0]).toString();
  try {
    const json = JSON.stringify(command);
    await radosMonCommand(cluster.pointer, [json], 1, data, data.length, out, outLength, status, statusLength);
    return { out: takeBuffer(out[0], outLength[0]), status: text() };
  } catch (error) {
    if (!(error instanceof NativeError)) throw error;
    throw new NativeError(`mon command ${String(command['prefix'])}`, error.errno, text());
  }
}

/** Copies what librados allocated, and frees it. */
function takeBuffer(pointer: Pointer | null, length: number): Buffer {
  if (pointer === null) return Buffer.alloc(0);
  const copy = Buffer.from(Buffer.from(koffi.view(pointer, length)));
  radosBufferFree(pointer);
  return copy;
}
