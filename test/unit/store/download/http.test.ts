import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HttpClient } from '../../../../src/store/download/http.ts';
import { parseContentRange, parseRetryAfter, rangeHeaders } from '../../../../src/store/download/range.ts';
import { descriptorOf, emptyStore, httpClient, impatient, never } from '../../../support/content.ts';
import { fileServer, localServer, someBytes } from '../../../support/file-server.ts';
import { httpFile } from '../../../support/http-file.ts';

const credentials = { authorization: 'Bearer secret', cookie: 'session=secret' };

describe('credentials', () => {
  test('S31 go to the host that they are for', async () => {
    const server = await localServer((_request, response) => response.end('yes'));
    const client = httpClient();
    const response = await client.request(server.url, { authorization: 'Bearer secret', signal: never });
    expect((await response.bytes(10)).toString()).toBe('yes');
    expect(server.requests[0]?.headers.authorization).toBe('Bearer secret');
  });

  test('S31 do not follow a redirect to another host, nor to another port of this one', async () => {
    const other = await localServer((_request, response) => response.end('blob'));
    const first = await localServer((_request, response) => {
      response.writeHead(307, { location: `${other.url}/blob` }).end();
    });
    const response = await httpClient().request(`${first.url}/v2/`, {
      headers: credentials,
      authorization: 'Bearer secret',
      signal: never,
    });
    expect((await response.bytes(10)).toString()).toBe('blob');
    expect(response.url.href).toBe(`${other.url}/blob`);
    expect(first.requests[0]?.headers).toMatchObject(credentials);
    expect(other.requests[0]?.headers).not.toHaveProperty('authorization');
    expect(other.requests[0]?.headers).not.toHaveProperty('cookie');
  });

  test('S31 stay away when a redirect comes back to where they are for', async () => {
    const first = await localServer((_request, response, _seen, index) => {
      if (index === 0) response.writeHead(302, { location: `${other.url}/` }).end();
      else response.end('deleted');
    });
    const other = await localServer((_request, response) => {
      response.writeHead(302, { location: `${first.url}/delete-everything` }).end();
    });
    await httpClient().request(first.url, { headers: credentials, authorization: 'Bearer secret', signal: never });
    expect(first.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer secret', undefined]);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
  });

  test('S31 follow a redirect on the same host', async () => {
    const server = await localServer((request, response) => {
      if (request.url === '/a') response.writeHead(308, { location: '/b' }).end();
      else response.end('b');
    });
    await httpClient().request(`${server.url}/a`, { authorization: 'Bearer secret', signal: never });
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer secret', 'Bearer secret']);
  });

  test('S31 in a URL are used, shown nowhere, and lost on the way to another host', async () => {
    const file = Buffer.from('some file');
    const other = await fileServer(file);
    const first = await localServer((_request, response) => {
      response.writeHead(302, { location: `${other.url.replace('://', '://eve:pw@')}/f` }).end();
    });
    const from = httpFile(`${first.url.replace('://', '://bob:pass%20word@')}/f`, httpClient());
    expect(from.name).toBe(`${first.url}/f`);
    const { store } = emptyStore();
    await store.ingest(descriptorOf(file), from, { signal: never, progress: () => {} });
    const basic = `Basic ${Buffer.from('bob:pass word').toString('base64')}`;
    expect(first.requests[0]?.headers.authorization).toBe(basic);
    expect(other.requests[0]?.headers.authorization).toBeUndefined();
  });

  test('S31 are not sent again by a download that is resumed at another host', async () => {
    const file = someBytes(200_000);
    const other = await fileServer(file, { dropAfter: (index) => (index === 0 ? 100_000 : undefined) });
    const first = await localServer((_request, response) => {
      response.writeHead(307, { location: `${other.url}/f` }).end();
    });
    const from = httpFile(`${first.url.replace('://', '://bob:pw@')}/f`, httpClient());
    const { store } = emptyStore();
    await store.ingest(descriptorOf(file), from, { signal: never, progress: () => {}, download: impatient });
    expect(first.requests).toHaveLength(2);
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });
});

describe('redirects', () => {
  test('F23 that go around in a circle end', async () => {
    const server = await localServer((_request, response) => response.writeHead(302, { location: '/again' }).end());
    const result = httpClient().request(server.url, { signal: never });
    await expect(result).rejects.toThrow(/more than 8 redirects/);
    expect(server.requests).toHaveLength(9);
  });

  test('F23 in a circle end a download, without another attempt', async () => {
    const server = await localServer((_request, response) => response.writeHead(302, { location: '/again' }).end());
    const { store, files } = emptyStore();
    const from = httpFile(server.url, httpClient());
    const result = store.ingest(descriptorOf(Buffer.from('x')), from, { signal: never, progress: () => {} });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    expect(server.requests).toHaveLength(9);
    expect(files()).toEqual([]);
  });

  test.each(['file:///etc/passwd', 'ftp://127.0.0.1/', 'http://[', 'data:,x'])(
    'to %s are refused',
    async (location) => {
      const server = await localServer((_request, response) => response.writeHead(302, { location }).end());
      await expect(httpClient().request(server.url, { signal: never })).rejects.toMatchObject({
        name: 'RemoteError',
        retry: false,
      });
    },
  );

  test('of what is sent are left to the caller', async () => {
    const server = await localServer((_request, response) => response.writeHead(307, { location: '/b' }).end());
    const response = await httpClient().request(server.url, { method: 'PUT', body: 'x', signal: never });
    expect(response.status).toBe(307);
    await response.discard();
    expect(server.requests).toHaveLength(1);
  });
});

describe('an answer', () => {
  test('that is longer than it may be is refused', async () => {
    const server = await localServer((_request, response) => response.end(someBytes(100_000)));
    const response = await httpClient().request(server.url, { signal: never });
    await expect(response.bytes(99_999)).rejects.toThrow('longer than 99999 bytes');
  });

  test('that does not come is an error in words', async () => {
    const server = await localServer((_request, response) => response.destroy());
    await expect(httpClient().request(server.url, { signal: never })).rejects.toMatchObject({
      name: 'RemoteError',
      retry: true,
      message: expect.stringMatching(/^127\.0\.0\.1:\d+ broke the connection$/),
    });
  });

  test('of a port where nobody listens is an error in words', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    await new Promise((resolve) => server.close(resolve));
    const port = typeof address === 'object' ? address?.port : undefined;
    await expect(httpClient().request(`http://127.0.0.1:${port}/`, { signal: never })).rejects.toMatchObject({
      message: `127.0.0.1:${port} refuses connections`,
      errno: 'ECONNREFUSED',
    });
  });

  test('is not waited for any longer after an abort', async () => {
    const controller = new AbortController();
    const server = await localServer(() => controller.abort());
    await expect(httpClient().request(server.url, { signal: controller.signal })).rejects.toMatchObject({
      code: 'TSV_CANCELLED',
    });
  });
});

describe('a proxy of the environment', () => {
  /** An HTTP proxy for plain requests and for CONNECT. */
  async function proxy() {
    const seen: string[] = [];
    const server = createServer((request, response) => {
      seen.push(`${request.method} ${request.url}`);
      const passed = httpRequest(`http://127.0.0.1:${target}${new URL(request.url ?? '').pathname}`, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        answer.pipe(response);
      });
      passed.end();
    });
    server.on('connect', (request, socket) => {
      seen.push(`CONNECT ${request.url}`);
      const onward = connect(target, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        onward.pipe(socket);
        socket.pipe(onward);
      });
      socket.on('error', () => onward.destroy());
      onward.on('error', () => socket.destroy());
    });
    let target = 0;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    return {
      seen,
      port,
      to: (url: string) => {
        target = Number(new URL(url).port);
      },
    };
  }

  test.each(['http_proxy', 'HTTP_PROXY'])('is used for http by %s', async (name) => {
    const server = await localServer((_request, response) => response.end('through'));
    const { seen, port, to } = await proxy();
    to(server.url);
    const client = httpClient({ [name]: `http://127.0.0.1:${port}` });
    const response = await client.request('http://registry.example/v2/', { signal: never });
    expect((await response.bytes(100)).toString()).toBe('through');
    expect(seen).toEqual(['GET http://registry.example/v2/']);
  });

  test('is asked for a tunnel for https, and may be written without a scheme', async () => {
    const server = await localServer(() => {});
    const { seen, port, to } = await proxy();
    to(server.url);
    const client = httpClient({ HTTPS_PROXY: `127.0.0.1:${port}` });
    // The server behind does not speak TLS; the tunnel is what counts.
    await expect(client.request('https://registry.example/v2/', { signal: never })).rejects.toThrow();
    expect(seen).toEqual(['CONNECT registry.example:443']);
  });

  test('is not used for what NO_PROXY names, and never for this host', async () => {
    const server = await localServer((_request, response) => response.end('direct'));
    const { seen, port } = await proxy();
    const client = httpClient({ http_proxy: `http://127.0.0.1:${port}`, NO_PROXY: 'invalid, .example' });
    for (const url of [server.url, server.url.replace('127.0.0.1', 'localhost')]) {
      const response = await client.request(url, { signal: never });
      expect((await response.bytes(100)).toString()).toBe('direct');
    }
    await expect(client.request('http://registry.invalid/', { signal: never })).rejects.toThrow('registry.invalid');
    expect(seen).toEqual([]);
  });

  test('that is no address is an error that names the variable', async () => {
    const client = new HttpClient({ env: { HTTPS_PROXY: 'http://:::' } });
    await expect(client.request('https://registry.invalid/', { signal: never })).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      message: expect.stringContaining('https_proxy'),
    });
  });
});

describe('the headers of a part', () => {
  const signal = never;
  test('are Range and, with a validator, If-Range', () => {
    expect(rangeHeaders({ offset: 0, signal })).toEqual({ 'accept-encoding': 'identity' });
    expect(rangeHeaders({ offset: 5, signal })).toMatchObject({ range: 'bytes=5-' });
    expect(rangeHeaders({ offset: 0, end: 10, validator: '"x"', signal })).toMatchObject({
      range: 'bytes=0-9',
      'if-range': '"x"',
    });
  });

  test('come back as Content-Range, and only as one that makes sense', () => {
    expect(parseContentRange('bytes 5-9/20')).toEqual({ offset: 5, total: 20 });
    expect(parseContentRange('bytes 5-9/*')).toEqual({ offset: 5 });
    for (const text of ['bytes 9-5/20', 'bytes 5-20/20', 'bytes */20', 'items 0-1/2', 'bytes -1-2/3', undefined]) {
      expect(parseContentRange(text)).toBeUndefined();
    }
  });

  test('of a busy server say how long to wait, in seconds or as a date', () => {
    const now = Date.UTC(2026, 0, 1);
    expect(parseRetryAfter('7', now)).toBe(7000);
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60_000);
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0);
    expect(parseRetryAfter('soon', now)).toBeUndefined();
    expect(parseRetryAfter(undefined, now)).toBeUndefined();
  });
});
