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
  /** What is read. */
  readable: Readable;
  /** What the file is called where it is saved, without its extension. */
  name: string;
  format: 'raw' | 'qcow2' | 'rbd-diff';
  /** An `rbd-diff` holds what changed since this tag of the same disk. */
  since?: string | undefined;
}

interface Answer {
  status: number;
  headers: OutgoingHttpHeaders;
  pieces: Iterable<Piece> | AsyncIterable<Piece>;
}

/**
 * Answers a GET or HEAD with a volume's bytes, and returns when nothing reads the volume any more. Rejects with the storage's error:
 * before anything was sent whoever called may answer it; after that the connection is cut, so that nobody takes a part for all.
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

/** A client that goes away is no failure of ours. */
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
  // A tag's own name, and not what people call it: they may give a name again, and a diff on another snapshot ruins the image.
  const to = 'tag' in readable ? readable.tag : undefined;
  return { status: 200, headers: {}, pieces: rbdDiffPieces(reader, since, { from: since, to }) };
}

/** Only raw is offered in parts: of the other formats nobody can promise that it looks the same tomorrow, byte by byte. */
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

/** A strong one (RFC 9110, 8.8.3), of what nobody writes to: no volume and no tag ever has the name of another. */
function entityTag(readable: Readable): string | undefined {
  if ('disk' in readable && !('tag' in readable)) return undefined;
  const identity = 'golden' in readable ? [readable.golden] : [readable.disk.project, readable.disk.name, readable.tag];
  return `"${createHash('sha256').update(identity.join('\0')).digest('base64url')}"`;
}
