import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export interface SeenRequest {
  readonly method: string;
  /** With its query. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export type Handler = (request: SeenRequest, response: ServerResponse) => void;

/** A server on 127.0.0.1 that does what a test says, and remembers what it was asked. */
export interface HostileServer {
  /** `127.0.0.1:PORT` */
  readonly host: string;
  readonly origin: string;
  readonly seen: readonly SeenRequest[];
}

/** `METHOD /path` without the query. */
export const line = ({ method, url }: SeenRequest): string => `${method} ${url.replace(/\?.*/, '')}`;

/** Whatever `handler` leaves unanswered is broken off when the test is over. */
export async function hostileServer(handler: Handler): Promise<HostileServer> {
  const seen: SeenRequest[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = '', url = '', headers } = request;
    const entry = { method, url, headers, body: Buffer.concat(chunks) };
    seen.push(entry);
    handler(entry, response);
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy()); // the client has gone away
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  const { port } = server.address() as AddressInfo;
  return { host: `127.0.0.1:${port}`, origin: `http://127.0.0.1:${port}`, seen };
}

export function json(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}
