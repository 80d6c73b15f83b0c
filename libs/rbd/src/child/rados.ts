import koffi from 'koffi';
import { declare, type Out, type Pointer } from './native.ts';

/** librados, as rados/librados.h of Ceph 16.2 declares it. Functions that only touch memory are called directly. */
const library = koffi.load('librados.so.2');

export const radosCreate = declare<[cluster: Out<Pointer | null>, name: string, user: string, flags: number]>(
  library,
  'int rados_create2(_Out_ void **cluster, const char *cluster_name, const char *user, uint64_t flags)',
);
export const radosConfReadFile = declare<[cluster: Pointer, path: string]>(
  library,
  'int rados_conf_read_file(void *cluster, const char *path)',
);
export const radosConfSet = declare<[cluster: Pointer, option: string, value: string]>(
  library,
  'int rados_conf_set(void *cluster, const char *option, const char *value)',
);
export const radosConnect = declare<[cluster: Pointer]>(library, 'int rados_connect(void *cluster)');
export const radosShutdown = declare<[cluster: Pointer]>(library, 'void rados_shutdown(void *cluster)');
export const radosGetAddresses = declare<[cluster: Pointer, addresses: Out<Pointer | null>]>(
  library,
  'int rados_getaddrs(void *cluster, _Out_ void **addresses)',
);
export const radosBlocklistAdd = declare<[cluster: Pointer, address: string, seconds: number]>(
  library,
  'int rados_blocklist_add(void *cluster, const char *address, uint32_t seconds)',
);
export const radosWaitForLatestMap = declare<[cluster: Pointer]>(
  library,
  'int rados_wait_for_latest_osdmap(void *cluster)',
);
export const radosIoctxCreate = declare<[cluster: Pointer, pool: string, ioctx: Out<Pointer | null>]>(
  library,
  'int rados_ioctx_create(void *cluster, const char *pool, _Out_ void **ioctx)',
);
export const radosPoolLookup = declare<[cluster: Pointer, pool: string]>(
  library,
  'int64_t rados_pool_lookup(void *cluster, const char *pool)',
);
export const radosMonCommand = declare<
  [
    cluster: Pointer,
    command: string[],
    commands: number,
    input: Buffer,
    inputLength: number,
    output: Out<Pointer | null>,
    outputLength: Out<number>,
    status: Out<Pointer | null>,
    statusLength: Out<number>,
  ]
>(
  library,
  'int rados_mon_command(void *cluster, const char **command, size_t commands, const void *input, size_t input_length, ' +
    '_Out_ void **output, _Out_ size_t *output_length, _Out_ void **status, _Out_ size_t *status_length)',
);

export const radosRemove = declare<[ioctx: Pointer, object: string]>(
  library,
  'int rados_remove(void *ioctx, const char *object)',
);

/** Reads of an object that are sent together. Each reports an error of its own, once the whole was operated. */
export const radosCreateReadOp = library.func('void *rados_create_read_op()') as () => Pointer;
export const radosReleaseReadOp = library.func('void rados_release_read_op(void *op)') as (op: Pointer) => void;
export const radosReadOpOmapGetVals = library.func(
  'void rados_read_op_omap_get_vals2(void *op, const char *start_after, const char *prefix, uint64_t max, void *iterator, void *more, ' +
    'void *result)',
) as (
  op: Pointer,
  startAfter: string,
  prefix: string,
  max: number,
  iterator: Pointer,
  more: Pointer,
  result: Pointer,
) => void;
export const radosReadOpOperate = declare<[op: Pointer, ioctx: Pointer, object: string, flags: number]>(
  library,
  'int rados_read_op_operate(void *op, void *ioctx, const char *object, int flags)',
);
export const radosOmapGetNext = library.func(
  'int rados_omap_get_next2(void *iterator, _Out_ void **key, _Out_ void **value, _Out_ size_t *key_length, _Out_ size_t *value_length)',
) as (
  iterator: Pointer,
  key: Out<Pointer | null>,
  value: Out<Pointer | null>,
  keyLength: Out<number>,
  valueLength: Out<number>,
) => number;
export const radosOmapGetEnd = library.func('void rados_omap_get_end(void *iterator)') as (iterator: Pointer) => void;

export const radosIoctxSetNamespace = library.func('void rados_ioctx_set_namespace(void *ioctx, const char *name)') as (
  ioctx: Pointer,
  name: string,
) => void;
export const radosIoctxDestroy = library.func('void rados_ioctx_destroy(void *ioctx)') as (ioctx: Pointer) => void;
export const radosSetPoolFullTry = library.func('void rados_set_pool_full_try(void *ioctx)') as (
  ioctx: Pointer,
) => void;
export const radosBufferFree = library.func('void rados_buffer_free(void *buffer)') as (buffer: Pointer) => void;
export const radosVersion = library.func(
  'void rados_version(_Out_ int *major, _Out_ int *minor, _Out_ int *extra)',
) as (major: Out<number>, minor: Out<number>, extra: Out<number>) => void;
