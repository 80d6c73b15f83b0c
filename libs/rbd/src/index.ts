export { RbdClient } from './rbd-client.ts';
export { RbdError, type RbdErrorCode } from './rbd-error.ts';
export type { ImageHandle } from './image-handle.ts';
export type { ImageStream } from './image-stream.ts';
export type {
  AddressBook,
  CallOptions,
  Child,
  Extent,
  Feature,
  ImageInfo,
  ImageName,
  ImageOptions,
  ImageRef,
  LockOwner,
  MonAnswer,
  PoolStats,
  ProgressOptions,
  RbdClientOptions,
  SnapInfo,
  SnapRef,
  SourceRef,
} from './types.ts';
