import koffi from 'koffi';
import { declare, type Out, type Pointer } from './native.ts';
import './rbd-structs.ts';

/** librbd, as rbd/librbd.h of Ceph 16.2 declares it: operations on whole images and snapshots. Input and output are in rbd-io.ts. */
const library = koffi.load('librbd.so.1');

export type ProgressCallback = (done: number, total: number) => number;
koffi.proto('int RbdProgress(uint64_t done, uint64_t total, void *data)');

type WithImage = [image: Pointer];

// Pools and namespaces
export const rbdNamespaceCreate = declare<[ioctx: Pointer, name: string]>(
  library,
  'int rbd_namespace_create(void *ioctx, const char *name)',
);
export const rbdNamespaceRemove = declare<[ioctx: Pointer, name: string]>(
  library,
  'int rbd_namespace_remove(void *ioctx, const char *name)',
);
export const rbdNamespaceList = declare<[ioctx: Pointer, names: Buffer, size: Out<number>]>(
  library,
  'int rbd_namespace_list(void *ioctx, void *names, _Inout_ size_t *size)',
);
export const rbdNamespaceExists = declare<[ioctx: Pointer, name: string, exists: Out<boolean>]>(
  library,
  'int rbd_namespace_exists(void *ioctx, const char *name, _Out_ bool *exists)',
);
export const rbdList = declare<[ioctx: Pointer, images: Pointer, count: Out<number>]>(
  library,
  'int rbd_list2(void *ioctx, void *images, _Inout_ size_t *count)',
);

// Images
export const rbdCreate = declare<[ioctx: Pointer, name: string, size: number, options: Pointer]>(
  library,
  'int rbd_create4(void *ioctx, const char *name, uint64_t size, void *options)',
);
export const rbdClone = declare<
  [parent: Pointer, image: string, snap: string, child: Pointer, name: string, options: Pointer]
>(
  library,
  'int rbd_clone3(void *parent, const char *image, const char *snap, void *child, const char *name, void *options)',
);
export const rbdRemove = declare<[ioctx: Pointer, name: string]>(
  library,
  'int rbd_remove(void *ioctx, const char *name)',
);
export const rbdRename = declare<[ioctx: Pointer, from: string, to: string]>(
  library,
  'int rbd_rename(void *ioctx, const char *from, const char *to)',
);
export const rbdMetadataSet = declare<[image: Pointer, key: string, value: string]>(
  library,
  'int rbd_metadata_set(void *image, const char *key, const char *value)',
);
export const rbdMetadataGet = declare<[image: Pointer, key: string, value: Buffer, size: Out<number>]>(
  library,
  'int rbd_metadata_get(void *image, const char *key, void *value, _Inout_ size_t *size)',
);
export const rbdOpen = declare<[ioctx: Pointer, name: string, image: Out<Pointer | null>, snap: string | null]>(
  library,
  'int rbd_open(void *ioctx, const char *name, _Out_ void **image, const char *snap)',
);
export const rbdOpenReadOnly = declare<[ioctx: Pointer, name: string, image: Out<Pointer | null>, snap: string | null]>(
  library,
  'int rbd_open_read_only(void *ioctx, const char *name, _Out_ void **image, const char *snap)',
);
export const rbdOpenByIdReadOnly = declare<[ioctx: Pointer, id: string, image: Out<Pointer | null>, snap: null]>(
  library,
  'int rbd_open_by_id_read_only(void *ioctx, const char *id, _Out_ void **image, const char *snap)',
);
export const rbdClose = declare<WithImage>(library, 'int rbd_close(void *image)');
export const rbdResize = declare<
  [image: Pointer, size: number, allowShrink: boolean, progress: ProgressCallback, data: null]
>(library, 'int rbd_resize2(void *image, uint64_t size, bool allow_shrink, RbdProgress *progress, void *data)');
export const rbdFlatten = declare<[image: Pointer, progress: ProgressCallback, data: null]>(
  library,
  'int rbd_flatten_with_progress(void *image, RbdProgress *progress, void *data)',
);

export const rbdRebuildObjectMap = declare<[image: Pointer, progress: ProgressCallback, data: null]>(
  library,
  'int rbd_rebuild_object_map(void *image, RbdProgress *progress, void *data)',
);

// Trash
export const rbdTrashMove = declare<[ioctx: Pointer, name: string, delaySeconds: number]>(
  library,
  'int rbd_trash_move(void *ioctx, const char *name, uint64_t delay)',
);
export const rbdTrashList = declare<[ioctx: Pointer, entries: Pointer, count: Out<number>]>(
  library,
  'int rbd_trash_list(void *ioctx, void *entries, _Inout_ size_t *count)',
);
export const rbdTrashRemove = declare<[ioctx: Pointer, id: string, force: boolean]>(
  library,
  'int rbd_trash_remove(void *ioctx, const char *id, bool force)',
);
export const rbdTrashRemoveWithProgress = declare<
  [ioctx: Pointer, id: string, force: boolean, progress: ProgressCallback, data: null]
>(
  library,
  'int rbd_trash_remove_with_progress(void *ioctx, const char *id, bool force, RbdProgress *progress, void *data)',
);

// Information about an image
export const rbdGetFeatures = declare<[image: Pointer, features: Out<number>]>(
  library,
  'int rbd_get_features(void *image, _Out_ uint64_t *features)',
);
export const rbdGetId = declare<[image: Pointer, id: Buffer, length: number]>(
  library,
  'int rbd_get_id(void *image, void *id, size_t length)',
);
export const rbdStat = declare<[image: Pointer, info: Record<string, unknown>, length: number]>(
  library,
  'int rbd_stat(void *image, _Out_ RbdImageInfo *info, size_t length)',
);
export const rbdGetParent = declare<[image: Pointer, parent: Pointer, snap: Pointer]>(
  library,
  'int rbd_get_parent(void *image, void *parent, void *snap)',
);
export const rbdListChildren = declare<[image: Pointer, children: Pointer, count: Out<number>]>(
  library,
  'int rbd_list_children3(void *image, void *children, _Inout_ size_t *count)',
);
export const rbdListWatchers = declare<[image: Pointer, watchers: Pointer, count: Out<number>]>(
  library,
  'int rbd_watchers_list(void *image, void *watchers, _Inout_ size_t *count)',
);

// Snapshots
export const rbdSnapList = declare<[image: Pointer, snaps: Pointer, count: Out<number>]>(
  library,
  'int rbd_snap_list(void *image, void *snaps, _Inout_ int *count)',
);
export const rbdSnapKind = declare<[image: Pointer, snap: number, kind: Out<number>]>(
  library,
  'int rbd_snap_get_namespace_type(void *image, uint64_t snap, _Out_ int *kind)',
);
export const rbdSnapGetId = declare<[image: Pointer, snap: string, id: Out<number>]>(
  library,
  'int rbd_snap_get_id(void *image, const char *snap, _Out_ uint64_t *id)',
);
export const rbdSnapIsProtected = declare<[image: Pointer, snap: string, isProtected: Out<number>]>(
  library,
  'int rbd_snap_is_protected(void *image, const char *snap, _Out_ int *is_protected)',
);
export const rbdSnapCreate = declare<[image: Pointer, snap: string]>(
  library,
  'int rbd_snap_create(void *image, const char *snap)',
);
export const rbdSnapRemove = declare<[image: Pointer, snap: string]>(
  library,
  'int rbd_snap_remove(void *image, const char *snap)',
);
export const rbdSnapProtect = declare<[image: Pointer, snap: string]>(
  library,
  'int rbd_snap_protect(void *image, const char *snap)',
);
export const rbdSnapUnprotect = declare<[image: Pointer, snap: string]>(
  library,
  'int rbd_snap_unprotect(void *image, const char *snap)',
);

// Locks
export const rbdListLockers = declare<
  [
    image: Pointer,
    exclusive: Out<number>,
    tag: Buffer,
    tagLength: Out<number>,
    clients: Buffer,
    clientsLength: Out<number>,
    cookies: Buffer,
    cookiesLength: Out<number>,
    addresses: Buffer,
    addressesLength: Out<number>,
  ]
>(
  library,
  'int64_t rbd_list_lockers(void *image, _Out_ int *exclusive, void *tag, _Inout_ size_t *tag_length, void *clients, ' +
    '_Inout_ size_t *clients_length, void *cookies, _Inout_ size_t *cookies_length, void *addresses, ' +
    '_Inout_ size_t *addresses_length)',
);

export const rbdVersion = library.func('void rbd_version(_Out_ int *major, _Out_ int *minor, _Out_ int *extra)') as (
  major: Out<number>,
  minor: Out<number>,
  extra: Out<number>,
) => void;
