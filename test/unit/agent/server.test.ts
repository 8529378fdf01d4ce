import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { encodeFrame, frame, protocolVersion } from '../../../src/agent/protocol.ts';
import { AgentServer } from '../../../src/agent/server.ts';
import type { Service } from '../../../src/agent/service.ts';
import { TsvError } from '../../../src/model/errors.ts';
import type { Emit } from '../../../src/model/events.ts';
import type { ExecResult } from '../../../src/model/provider.ts';
import { deferred } from '../../support/deferred.ts';
import { until } from '../../support/until.ts';

async function listening(service: object): Promise<{ server: AgentServer; path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'agent-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const server = new AgentServer(service as Service);
  onTestFinished(() => server.retire());
  const path = join(folder, 'agent.sock');
  await server.listen(path);
  return { server, path };
}

const request = (call: object, command: string): string =>
  `${JSON.stringify({ version: protocolVersion, client: { pid: 1, command }, call })}\n`;

test('a client that has sent input for a command which could not be started is let go', async () => {
  let fail: ((error: Error) => void) | undefined;
  const exec = () =>
    new Promise((_, reject) => {
      fail = reject;
    });
  const { server, path } = await listening({ exec });
  const client = connect(path);
  let answer = '';
  client.on('data', (data: Buffer) => {
    answer += data;
  });
  client.write(request({ do: 'exec', machine: 'c', request: { argv: ['none'], user: 'root' } }, 'tsv exec c -- none'));
  await until('the command is asked for', () => fail !== undefined);
  client.write(encodeFrame(frame.stdin, Buffer.alloc(1 << 20)));
  client.end(encodeFrame(frame.eof));
  fail?.(new TsvError('TSV_COMMAND_NOT_FOUND', 'c: none: there is no such command'));
  await until('the connection has ended', () => server.connected === 0);
  expect(answer).toContain('TSV_COMMAND_NOT_FOUND');
});

test('a client whose command ends without reading its input is let go', async () => {
  const session = {
    stdin: new Writable({ write: () => {}, highWaterMark: 1 }),
    stdout: Readable.from([]),
    stderr: Readable.from([]),
    resize: () => {},
    signal: () => {},
    exited: deferred<ExecResult>(),
  };
  const { server, path } = await listening({ exec: async () => ({ ...session, exited: session.exited.promise }) });
  const client = connect(path);
  let answer = '';
  client.on('data', (data: Buffer) => {
    answer += data;
  });
  client.write(request({ do: 'exec', machine: 'c', request: { argv: ['true'] } }, 'tsv exec c -- true'));
  await until('it runs', () => answer.includes('stream'));
  for (let n = 0; n < 10; n++) client.write(encodeFrame(frame.stdin, Buffer.alloc(1 << 20)));
  await until('it waits', () => session.stdin.writableNeedDrain);
  session.exited.resolve({ code: 3 });
  await until('the exit code has come', () => answer.includes('{"code":3}'));
  client.end();
  await until('the connection has ended', () => server.connected === 0);
});

test('an agent whose command was killed is busy until what it began is over, and only then has nothing to do', async () => {
  let emit: Emit | undefined;
  let finish = (): void => {};
  const work = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const run = async (_command: unknown, _parallel: number, tell: Emit) => {
    emit = tell;
    await work;
    return {};
  };
  const { server, path } = await listening({ run });
  let idle = 0;
  server.onIdle = () => {
    idle++;
  };
  const client = connect(path);
  const call = { do: 'run', command: { command: 'halt', targets: [], force: false }, parallel: 1 };
  client.write(request(call, 'tsv halt'));
  await until('the command runs', () => emit !== undefined);
  client.destroy();
  await until('nobody listens any more', () => {
    emit?.({ type: 'notice', text: 'still at work' });
    return server.connected === 0;
  });
  expect([server.busy, idle]).toEqual([true, 0]);
  finish();
  await until('it has nothing to do', () => idle > 0);
  expect(server.busy).toBe(false);
});
