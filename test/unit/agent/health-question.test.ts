import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { PassThrough, Readable } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ask, type Ways } from '../../../src/agent/health-question.ts';
import type { ExecResult, Transport } from '../../../src/model/provider.ts';
import { deferred } from '../../support/deferred.ts';

const connected = async (port: number) => {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
};
const network: Ways = { dial: connected, connect: () => Promise.reject(new Error('not by the network')) };

async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as AddressInfo).port;
}
const http = (listener: RequestListener): Promise<number> => listening(createHttpServer(listener));
const get = (port: number, path = '/') => ask({ by: 'http', port, path }, network).answer;

describe('a check by HTTP', () => {
  test.each([200, 204, 301, 399])('takes the status %d as healthy', async (status) => {
    expect(await get(await http((_, response) => response.writeHead(status, { location: '/other' }).end()))).toEqual({
      healthy: true,
    });
  });

  test.each([400, 404, 500, 503])('takes the status %d as unhealthy, with the end of the answer', async (status) => {
    const port = await http((_, response) => response.writeHead(status).end('one\ntwo\n'));
    expect(await get(port)).toEqual({ healthy: false, why: `HTTP status ${status}`, output: ['one', 'two'] });
  });

  test('asks for the path with its query, once, and follows no redirect', async () => {
    const asked: string[] = [];
    const port = await http((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.host}`);
      response.writeHead(302, { location: '/elsewhere' }).end();
    });
    expect(await get(port, '/up?deep=1')).toEqual({ healthy: true });
    expect(asked).toEqual([`GET /up?deep=1 localhost:${port}`]);
  });

  test('goes through no proxy', async () => {
    const before = { ...process.env };
    onTestFinished(
      () => void Object.assign(process.env, { http_proxy: before.http_proxy, HTTP_PROXY: before.HTTP_PROXY }),
    );
    Object.assign(process.env, { http_proxy: 'http://127.0.0.1:1', HTTP_PROXY: 'http://127.0.0.1:1' });
    expect(await get(await http((_, response) => response.end()))).toEqual({ healthy: true });
  });

  test('does not read an answer that never ends', async () => {
    let closed = false;
    const port = await http((_, response) => {
      response.on('close', () => {
        closed = true;
      });
      response.writeHead(500);
      const more = (): void => {
        while (!closed && response.write('x'.repeat(65536)));
        response.once('drain', more);
      };
      more();
    });
    const answer = await get(port);
    expect(answer).toMatchObject({ healthy: false, why: 'HTTP status 500' });
    expect(JSON.stringify(answer).length).toBeLessThan(10_000);
  });

  test('fails by a server that hangs up, speaks no HTTP, or is not there', async () => {
    const silent = await listening(createServer((socket) => void socket.on('data', () => socket.end())));
    expect(await get(silent)).toMatchObject({ healthy: false });
    const rude = await listening(createServer((socket) => void socket.end('220 smtp ready\r\n')));
    expect(await get(rude)).toMatchObject({ healthy: false, why: expect.stringContaining('Parse Error') });
    const gone = createServer();
    const port = await listening(gone);
    gone.close();
    expect(await get(port)).toMatchObject({ healthy: false, why: expect.stringContaining('ECONNREFUSED') });
  });

  test('that is given up ends, and so does its connection', async () => {
    const opened = deferred();
    const ended = deferred();
    const port = await http((_, response) => {
      response.on('close', () => ended.resolve());
      opened.resolve();
    });
    const asked = ask({ by: 'http', port, path: '/' }, network);
    await opened.promise;
    asked.cut();
    await ended.promise;
    expect(await asked.answer).toMatchObject({ healthy: false });
  });
});

describe('a check by a connection', () => {
  test('succeeds where somebody listens, and lets go', async () => {
    const ended = deferred();
    const port = await listening(createServer((socket) => void socket.on('close', () => ended.resolve()).resume()));
    expect(await ask({ by: 'tcp', port }, network).answer).toEqual({ healthy: true });
    await ended.promise;
  });

  test('that is given up while it is dialled lets go of what comes later', async () => {
    const dialling = deferred<PassThrough>();
    const asked = ask({ by: 'tcp', port: 1 }, { ...network, dial: () => dialling.promise });
    asked.cut();
    const stream = new PassThrough();
    dialling.resolve(stream);
    await asked.answer;
    expect(stream.destroyed).toBe(true);
  });
});

describe('a check by a program', () => {
  /** A way into a machine whose program prints this and ends like this; without an end it hangs until it is killed. */
  const program = (printed: readonly string[], result?: ExecResult) => {
    const signals: string[] = [];
    const exited = deferred<ExecResult>();
    const stdout = Readable.from(printed.map((text) => Buffer.from(text)));
    stdout.on('close', () => void (result !== undefined && exited.resolve(result)));
    const session = {
      stdin: new PassThrough(),
      stdout,
      stderr: Readable.from([]),
      exited: exited.promise,
      resize: () => {},
      signal: (name: string) => {
        signals.push(name);
        setImmediate(() => exited.resolve({ code: 137, signal: name }));
      },
    };
    const transport = { exec: async () => session } as unknown as Transport;
    return { ways: { ...network, connect: async () => transport }, signals, session };
  };
  const exec = (ways: Ways) => ask({ by: 'exec', request: { argv: ['x'] } }, ways);

  test('is healthy with 0, and else told with its code and its last lines', async () => {
    expect(await exec(program(['fine'], { code: 0 }).ways).answer).toEqual({ healthy: true });
    expect(await exec(program(['a\n', 'no database\n'], { code: 7 }).ways).answer).toEqual({
      healthy: false,
      why: 'exit code 7',
      output: ['a', 'no database'],
    });
    expect(await exec(program([], { code: 139, signal: 'SEGV' }).ways).answer).toMatchObject({
      why: 'killed by SIGSEGV',
    });
  });

  test('is kept to its last lines, however much it prints', async () => {
    const much = Array.from({ length: 200 }, () => `${'y'.repeat(99)}\n`.repeat(100));
    const answer = await exec(program(much, { code: 1 }).ways).answer;
    expect(answer).toMatchObject({ healthy: false });
    expect(JSON.stringify(answer).length).toBeLessThan(5000);
  });

  test('that is given up is killed, and its output closed, also when it starts only then', async () => {
    const early = program(['waiting\n']);
    const asked = exec(early.ways);
    await once(early.session.stdout, 'data');
    expect(asked.said()).toEqual(['waiting']);
    asked.cut();
    await asked.answer;
    expect([early.signals, early.session.stdout.destroyed]).toEqual([['KILL'], true]);

    const late = program([]);
    const cutBefore = exec(late.ways);
    cutBefore.cut();
    await cutBefore.answer;
    expect(late.signals).toEqual(['KILL']);
  });
});
