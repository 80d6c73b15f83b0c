import { request } from 'node:http';
import type { TestInstallation } from './installation.js';

export interface Answer {
  status: number;
  /** The code of problem details; undefined when the answer is none. */
  code: string | undefined;
  type: string;
  allow: string | undefined;
  json: unknown;
}

export interface Ask {
  /** Absent: the admin's. Null: no Authorization header. */
  token?: string | null;
  /** The whole Authorization header, for other schemes than bearer tokens. */
  authorization?: string;
  body?: unknown;
  /** The body, byte for byte. */
  raw?: string;
  headers?: Record<string, string>;
}

/**
 * Sends a request that no good client would send: nothing is checked, and the path is sent unchanged (fetch would normalise it). Asks once.
 */
export function ask(
  { stage, adminToken }: TestInstallation,
  method: string,
  path: string,
  { token, authorization, body, raw, headers = {} }: Ask = {},
): Promise<Answer> {
  const { hostname, port } = new URL(stage.running.url);
  const credentials = authorization ?? (token === null ? undefined : `Bearer ${token ?? adminToken}`);
  const text = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const asked = request({
    hostname,
    port,
    path,
    method,
    headers: {
      ...(credentials && { authorization: credentials }),
      ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      ...headers,
    },
  });
  asked.on('error', reject).on('response', (response) => {
    let answer = '';
    response.setEncoding('utf8').on('data', (part: string) => (answer += part));
    response.on('error', reject).on('end', () => {
      const json = parse(answer);
      resolve({
        status: response.statusCode ?? 0,
        code: (json as { code?: string } | undefined)?.code,
        type: response.headers['content-type'] ?? '',
        allow: response.headers.allow,
        json,
      });
    });
  });
  asked.end(text);
  return promise;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
