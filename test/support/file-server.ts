import { createHash } from 'node:crypto';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { onTestFinished } from 'vitest';

/** A request as the server saw it. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Bytes of body that were sent in answer. */
  sent: number;
}

export interface LocalServer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  readonly requests: readonly Seen[];
}

export type Handler = (request: IncomingMessage, response: ServerResponse, seen: Seen, index: number) => void;

/** An HTTP server on 127.0.0.1 that ends with the test. `index` counts the requests from 0. */
export async function localServer(handler: Handler): Promise<LocalServer> {
  const requests: Seen[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    const seen: Seen = { method: request.method ?? '', url: request.url ?? '', headers: request.headers, sent: 0 };
    requests.push(seen);
    response.on('error', () => {}); // the client went away, as some tests want
    handler(request, response, seen, requests.length - 1);
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

/** What a file server does wrong, by the number of the request (from 0). */
export interface Manners {
  /** Whether it knows ranges. */
  readonly ranges?: (index: number) => boolean;
  /** Default: always the same; `undefined` sends none. */
  readonly etag?: (index: number) => string | undefined;
  /** Another status instead of the file. */
  readonly status?: (index: number) => { status: number; headers?: Record<string, string> } | undefined;
  /** Breaks the connection after so many bytes of this body. */
  readonly dropAfter?: (index: number) => number | undefined;
  /** Says nothing more after so many bytes of this body, and keeps the connection. */
  readonly holdAfter?: (index: number) => number | undefined;
  /** Other bytes than those of the file; the length that is told is theirs. */
  readonly content?: (index: number) => Buffer;
  /** No Content-Length: the end of the connection is the end of the file. */
  readonly unsized?: boolean;
}

/** Serves one file at every path, with Range and If-Range as RFC 9110 has them, apart from what `manners` say. */
export function fileServer(file: Buffer, manners: Manners = {}): Promise<LocalServer> {
  return localServer((request, response, seen, index) => {
    const other = manners.status?.(index);
    if (other !== undefined) {
      response.writeHead(other.status, other.headers).end('no');
      return;
    }
    const content = manners.content?.(index) ?? file;
    const etag = manners.etag === undefined ? '"1"' : manners.etag(index);
    const ranges = manners.ranges?.(index) ?? true;
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const valid = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
    const common = { ...(etag === undefined ? {} : { etag }), ...(ranges ? { 'accept-ranges': 'bytes' } : {}) };
    let body = content;
    if (ranges && valid && first !== undefined) {
      const start = Number(first);
      const end = last === '' || last === undefined ? content.length : Math.min(Number(last) + 1, content.length);
      if (start >= content.length) {
        response.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
        return;
      }
      body = content.subarray(start, end);
      response.writeHead(206, {
        ...common,
        'content-length': body.length,
        'content-range': `bytes ${start}-${end - 1}/${content.length}`,
      });
    } else if (manners.unsized === true) {
      response.writeHead(200, { ...common, connection: 'close', 'transfer-encoding': 'identity' });
    } else {
      response.writeHead(200, { ...common, 'content-length': body.length });
    }
    const stop = manners.dropAfter?.(index);
    const hold = manners.holdAfter?.(index);
    const part = body.subarray(0, stop ?? hold ?? body.length);
    seen.sent = part.length;
    response.write(part, () => {
      if (stop !== undefined) response.destroy();
      else if (hold === undefined) response.end();
    });
  });
}

/** Bytes that look random and are the same each time. */
export function someBytes(length: number, seed = 'tsv'): Buffer {
  const block = createHash('sha512').update(seed).digest();
  const bytes = Buffer.alloc(length);
  for (let at = 0, state = block; at < length; at += state.length) {
    state.copy(bytes, at);
    state = createHash('sha512').update(state).digest();
  }
  return bytes;
}
