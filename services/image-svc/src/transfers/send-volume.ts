import { createHash } from 'node:crypto';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { Readable, StorageBackend, VolumeReader } from '@m2/storage';
import { type Piece, produce } from './pieces.js';
import { qcow2File } from './qcow2.js';
import { parseRange } from './range.js';
import { rawPieces } from './raw.js';
import { rbdDiffPieces } from './rbd-diff.js';

export interface Download {
  /** The volume to read. */
  readable: Readable;
  /** Name of the saved file, without its extension. */
  name: string;
  format: 'raw' | 'qcow2' | 'rbd-diff';
  /** An `rbd-diff` has what changed since this tag of the same disk. */
  since?: string | undefined;
}

interface Answer {
  status: number;
  headers: OutgoingHttpHeaders;
  pieces: Iterable<Piece> | AsyncIterable<Piece>;
}

/**
 * Answers a GET or HEAD with the bytes of a volume. Returns when nothing reads the volume any more. Rejects with the storage's error:
 * before anything was sent, the caller can answer with it; after that the connection is cut, so that nobody takes a part for the whole.
 */
export async function sendVolume(
  storage: StorageBackend,
  download: Download,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const reader = await storage.openReader(download.readable);
  try {
    const { status, headers, pieces } = await answer(reader, download, request);
    response.writeHead(status, {
      'content-type': 'application/octet-stream',
      'content-disposition': `attachment; filename="${download.name.replaceAll(/[^\w.-]/g, '_')}.${download.format}"`,
      ...headers,
    });
    if (request.method === 'HEAD') response.end();
    else await pipeline(produce(reader, pieces), response).catch(ignoreLeaving);
  } finally {
    await reader.close();
  }
}

/** A client that disconnects is not a failure of ours. */
function ignoreLeaving(error: Error & { code?: string }): void {
  if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
}

async function answer(reader: VolumeReader, download: Download, request: IncomingMessage): Promise<Answer> {
  const { format, readable, since } = download;
  if (format === 'raw') return raw(reader, readable, request);
  if (format === 'qcow2') {
    const file = await qcow2File(reader);
    return { status: 200, headers: { 'content-length': file.length }, pieces: file.pieces() };
  }
  // The tag's name in the storage, not the one that people gave: they may give it again, and a diff applied to another snapshot destroys
  // the image.
  const to = 'tag' in readable ? readable.tag : undefined;
  return { status: 200, headers: {}, pieces: rbdDiffPieces(reader, since, { from: since, to }) };
}

/** Only raw supports ranges. The other formats may differ in bytes from one request to the next. */
function raw(reader: VolumeReader, readable: Readable, { headers }: IncomingMessage): Answer {
  const size = reader.sizeBytes;
  const etag = entityTag(readable);
  const common = { 'accept-ranges': 'bytes', ...(etag !== undefined && { etag }) };
  const condition = headers['if-range'];
  const range = condition === undefined || condition === etag ? parseRange(headers.range, size) : undefined;
  if (range === 'unsatisfiable') {
    return { status: 416, headers: { ...common, 'content-range': `bytes */${size}`, 'content-length': 0 }, pieces: [] };
  }
  const { start, end } = range ?? { start: 0, end: size };
  return {
    status: range ? 206 : 200,
    headers: {
      ...common,
      'content-length': end - start,
      ...(range && { 'content-range': `bytes ${start}-${end - 1}/${size}` }),
    },
    pieces: rawPieces(reader, start, end),
  };
}

/** A strong entity tag (RFC 9110, 8.8.3), for what nobody writes to: no two volumes or tags ever have the same name. */
function entityTag(readable: Readable): string | undefined {
  if ('disk' in readable && !('tag' in readable)) return undefined;
  const identity = 'golden' in readable ? [readable.golden] : [readable.disk.project, readable.disk.name, readable.tag];
  return `"${createHash('sha256').update(identity.join('\0')).digest('base64url')}"`;
}
