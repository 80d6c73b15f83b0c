import { open } from 'node:fs/promises';
import type { BackingStore, StorageBackend } from '../storage.port.js';

/** An attached disk, opened as a target opens it. */
export interface OpenDisk {
  readonly sizeBytes: number;
  read(offset: number, length: number): Promise<Buffer>;
  /** Returns when the bytes are durable, as a node waits before it relies on them. */
  write(offset: number, bytes: Buffer): Promise<void>;
  close(): Promise<void>;
}

/** Volumes of the storage that M2 does not own, by the storage's own names. */
export interface ForeignVolumes {
  /** Creates one with the content of a raw file; returns its name. */
  make(rawFile: string): Promise<string>;
  /** A name that is free. */
  freeName(): string;
  exists(name: string): Promise<boolean>;
  read(name: string): Promise<Buffer>;
}

/** What the suite needs from a backend's own test file. All backends from `open` use the same storage. */
export interface StorageHarness {
  open(): Promise<StorageBackend>;
  io: { open(store: BackingStore): Promise<OpenDisk> };
  /** A string is the reason why this storage has none; then every call with one is refused. */
  foreign: ForeignVolumes | string;
  /** Sends SIGKILL to the process behind attached volumes; absent when there is none. */
  killDaemon?(): Promise<void>;
  /** Fills the storage up to `freeBytes`, and frees it again. A string is the reason why that cannot be done here. */
  fill: { leave(freeBytes: number): Promise<void>; undo(): Promise<void> } | string;
  /** Ends everything and leaves nothing, whatever a failed test left. */
  teardown(): Promise<void>;
}

/** `io.open` of the backends whose backing store is a file. */
export async function openFile(store: BackingStore): Promise<OpenDisk> {
  if (store.type !== 'file') throw new Error(`not a file: ${JSON.stringify(store)}`);
  const file = await open(store.path, 'r+');
  const { size } = await file.stat();
  return {
    sizeBytes: size,
    read: async (offset, length) => {
      const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
      return buffer.subarray(0, bytesRead);
    },
    write: async (offset, bytes) => {
      await file.write(bytes, 0, bytes.length, offset);
      await file.sync();
    },
    close: () => file.close(),
  };
}
