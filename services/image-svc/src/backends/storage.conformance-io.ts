import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { BackingStore } from './storage.port.js';

const run = promisify(execFile);

export const MiB = 2 ** 20;
export const imageBytes = 24 * MiB;

export interface TestImages {
  directory: string;
  raw: string;
  qcow2: string;
}

/** A raw image with data in its first quarter and last quarter and a hole between, and the same as compressed qcow2. */
export async function makeImages(): Promise<TestImages> {
  const directory = await mkdtemp(join(tmpdir(), 'm2-images-'));
  const [raw, qcow2] = [join(directory, 'image.raw'), join(directory, 'image.qcow2')];
  const file = await open(raw, 'w');
  try {
    await file.write(randomBytes(imageBytes / 4), 0, undefined, 0);
    await file.write(randomBytes(imageBytes / 4), 0, undefined, (imageBytes / 4) * 3);
  } finally {
    await file.close();
  }
  await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', raw, qcow2]);
  return { directory, raw, qcow2 };
}

export const pathStore = (path: string): BackingStore => ({ type: 'file', path });
export const pathOf = (store: BackingStore): string => store.path;

export async function differs(store: BackingStore, image: string): Promise<boolean> {
  try {
    await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', pathOf(store), image]);
    return false;
  } catch (error) {
    if ((error as { code?: unknown }).code === 1) return true; // 1: they differ, more: could not compare
    throw error;
  }
}

export async function sizeOf(store: BackingStore): Promise<number> {
  return (await stat(pathOf(store))).size;
}

export async function read(store: BackingStore, offset: number, length: number): Promise<Buffer> {
  const file = await open(pathOf(store), 'r');
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Writes and flushes, as a node does before it relies on it. */
export async function write(store: BackingStore, offset: number, bytes: Buffer): Promise<void> {
  const file = await open(pathOf(store), 'r+');
  try {
    await file.write(bytes, 0, bytes.length, offset);
    await file.sync();
  } finally {
    await file.close();
  }
}

export async function until(condition: () => boolean, deadlineMs = 60_000): Promise<void> {
  const deadline = Date.now() + deadlineMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${deadlineMs} ms: ${condition.toString()}`);
    await pause(10);
  }
}
