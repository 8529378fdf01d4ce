import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Attachment, attach } from '../../../providers/kvm/attachment.ts';
import { machineFiles } from '../../../providers/kvm/files.ts';
import { processRef } from '../../../src/sys/process.ts';

/* A QEMU's sockets, and who holds on to them. */

let dir: string;
let servers: Server[];
let console: Socket;
let qmp: Socket;
let attachment: Attachment;

async function serve(path: string): Promise<Promise<Socket>> {
  const server = createServer();
  servers.push(server);
  const client = once(server, 'connection').then(([socket]) => socket as Socket);
  server.listen(path);
  await once(server, 'listening');
  return client;
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-attach-'));
  servers = [];
  const files = machineFiles({ dir, runDir: dir });
  writeFileSync(files.qemuLog, '');
  const consoleClient = serve(files.consoleSocket);
  const qmpClient = serve(files.qmpSocket);
  const own = processRef(process.pid);
  if (own === undefined) throw new Error('this process is not there');
  const never = () => new Promise<never>(() => {});
  const attaching = attach({ launch: never, exited: never, kill: () => false }, own, files, { timeoutMs: 5000 });
  console = await await consoleClient;
  qmp = await await qmpClient;
  qmp.write('{"QMP":{"version":{},"capabilities":[]}}\n');
  qmp.on('data', (data: Buffer) => {
    for (const line of data.toString().trim().split('\n')) {
      const { id } = JSON.parse(line) as { id: number };
      qmp.write(`${JSON.stringify({ return: {}, id })}\n`);
    }
  });
  attachment = await attaching;
});

afterEach(() => {
  attachment.detach();
  for (const socket of [console, qmp]) socket.destroy();
  for (const server of servers) server.close();
  rmSync(dir, { recursive: true });
});

/** The console's text has come. */
async function print(text: string): Promise<void> {
  const seen = new Promise<void>((resolve) => {
    const end = attachment.console.follow(() => {
      end();
      resolve();
    });
  });
  console.write(text);
  await seen;
}

/** QEMU tells of it, and whoever listens has had time to think. */
async function reset(): Promise<void> {
  const heard = new Promise<void>((resolve) => {
    const end = attachment.qmp.onEvent(() => {
      end();
      setImmediate(() => setImmediate(resolve));
    });
  });
  qmp.write('{"event":"RESET","data":{"guest":true,"reason":"guest-reset"}}\n');
  await heard;
}

const panicked = (): Promise<string> => Promise.race([attachment.panicked, Promise.resolve('no')]);

test('F19 a panic is one when the kernel says so and the machine is reset, and a reboot or a line alone is none', async () => {
  await reset();
  await print('Kernel panic - not syncing: said by a program\r\n');
  expect(await panicked()).toBe('no');
  await print('[   9.1] reboot: Restarting system\r\n');
  await reset();
  expect(await panicked()).toBe('no');
  await print('[    5.5] Kernel panic - not syncing: sysrq triggered crash\r\n[    5.6] CPU: 0 PID: 1\r\n');
  await reset();
  expect(await panicked()).toBe('sysrq triggered crash');
});
