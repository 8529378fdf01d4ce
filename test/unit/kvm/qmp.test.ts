import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { connectQmp, QmpError } from '../../../providers/kvm/qmp.ts';

const greeting =
  '{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n';

interface Request {
  readonly execute: string;
  readonly arguments: Record<string, unknown>;
  readonly id: number;
}

let dir: string;
let path: string;
let server: Server;
let requests: Request[];

/** A server that greets, and answers each request with the lines that `answer` gives. */
async function serve(
  answer: (request: Request, socket: Socket) => string | undefined,
  greet = greeting,
): Promise<void> {
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.write(greet);
    let rest = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const request = JSON.parse(line) as Request;
        requests.push(request);
        const lines =
          request.execute === 'qmp_capabilities' ? `{"return": {}, "id": ${request.id}}\r\n` : answer(request, socket);
        if (lines !== undefined) socket.write(lines);
      }
    });
  });
  server.listen(path);
  await once(server, 'listening');
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-qmp-'));
  path = join(dir, 'qmp.sock');
  server = createServer();
  requests = [];
});

afterEach(() => {
  server.close();
  rmSync(dir, { recursive: true });
});

describe('the QMP client', () => {
  test('negotiates first, then sends one line of JSON per command and gives its return', async () => {
    await serve(({ id }) => `{"return": {"status": "running"}, "id": ${id}}\r\n`);
    const qmp = await connectQmp(path);
    expect(await qmp.execute('query-status')).toEqual({ status: 'running' });
    await qmp.execute('device_add', { driver: 'x', text: 'a\nb' });
    expect(requests.map(({ execute, arguments: args }) => [execute, args])).toEqual([
      ['qmp_capabilities', {}],
      ['query-status', {}],
      ['device_add', { driver: 'x', text: 'a\nb' }],
    ]);
    qmp.close();
    await qmp.closed;
  });

  test('matches answers by id when they come in another order, with events and split lines between', async () => {
    const held: Request[] = [];
    await serve((request, socket) => {
      held.push(request);
      const [first, second] = held;
      if (first === undefined || second === undefined) return undefined;
      socket.write(`{"return": "two", "id": ${second.id}}\r\n{"event": "RESUME", "timestamp": {"seconds": 1}, "da`);
      return `ta": {"n": 1}}\r\n{"return": "one", "id": ${first.id}}\r\n`;
    });
    const qmp = await connectQmp(path);
    const events: unknown[] = [];
    qmp.onEvent((event) => events.push(event));
    expect(await Promise.all([qmp.execute('a'), qmp.execute('b')])).toEqual(['one', 'two']);
    expect(events).toEqual([{ event: 'RESUME', data: { n: 1 } }]);
    qmp.close();
  });

  test("rejects with QEMU's own class and words", async () => {
    await serve(({ id }) => `{"error": {"class": "CommandNotFound", "desc": "no such thing"}, "id": ${id}}\r\n`);
    const qmp = await connectQmp(path);
    await expect(qmp.execute('nonsense')).rejects.toMatchObject({
      name: 'QmpError',
      errorClass: 'CommandNotFound',
      message: 'no such thing',
    });
    qmp.close();
  });

  test('does not wait for ever for a greeting or an answer', async () => {
    await serve(() => undefined, '');
    await expect(connectQmp(path, { timeoutMs: 20 })).rejects.toThrow(/QMP greeting: no answer within 20 ms/);
    server.removeAllListeners('connection');
    server.on('connection', (socket) => {
      socket.write(greeting);
      socket.once('data', () => socket.write('{"return": {}, "id": 1}\r\n'));
    });
    const qmp = await connectQmp(path);
    await expect(qmp.execute('query-status', {}, { timeoutMs: 20 })).rejects.toThrow(/query-status: no answer/);
    qmp.close();
  });

  test('rejects what is under way and what comes later when QEMU hangs up', async () => {
    await serve((_, socket) => {
      socket.destroy();
      return undefined;
    });
    const qmp = await connectQmp(path);
    await expect(qmp.execute('quit')).rejects.toBeInstanceOf(QmpError);
    await qmp.closed;
    await expect(qmp.execute('query-status')).rejects.toBeInstanceOf(QmpError);
  });

  test('ends the conversation when a line is no JSON', async () => {
    await serve(() => 'QEMU monitor - type help\r\n');
    const qmp = await connectQmp(path);
    await expect(qmp.execute('query-status')).rejects.toThrow(/JSON/);
    await qmp.closed;
  });

  test('passes on ENOENT when there is no socket', async () => {
    await expect(connectQmp(join(dir, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
