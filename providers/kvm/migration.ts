import { once } from 'node:events';
import { closeSync, createWriteStream, openSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { within } from './attachment.ts';
import { asObject, type Qmp, QmpError } from './qmp.ts';

/** All of a guest's memory goes from one process to another, or a file's worth of devices comes out of one. */
const longestMs = 120_000;

/** What a QEMU is told before its state goes or comes. `memory`: that which is in a file goes along, and not with its file. */
export const migrationWith = (memory: boolean) => ({
  capabilities: [
    { capability: 'x-ignore-shared', state: !memory },
    { capability: 'events', state: true },
  ],
});

/** Begins to listen for the end of a migration: QEMU's qapi/migration.json, MIGRATION. */
export function migrationEnd(qmp: Qmp): { ended(timeoutMs: number): Promise<void>; ignore(): void } {
  let finish = (_: string) => {};
  const over = new Promise<string>((resolve) => {
    finish = resolve;
  });
  const ignore = qmp.onEvent(({ event, data }) => {
    if (event === 'MIGRATION' && (data.status === 'completed' || data.status === 'failed')) finish(String(data.status));
  });
  void qmp.closed.then(() => finish('failed'));
  return {
    async ended(timeoutMs) {
      if (!(await within(over, timeoutMs))) throw new QmpError(`its state did not go over within ${timeoutMs} ms`);
      if ((await over) === 'completed') return;
      const { 'error-desc': why } = asObject(await qmp.execute('query-migrate').catch(() => ({})));
      throw new QmpError(`its state did not go over: ${String(why ?? 'QEMU does not say why')}`);
    },
    ignore,
  };
}

/**
 * All of a machine's state, its memory too, to a QEMU that waits for it in its own folder. The machine stands still; its disks are
 * written out, and it goes on by `cont`.
 * @throws QmpError
 */
export async function moveState(from: Qmp, to: { readonly qmp: Qmp; readonly pid: number }): Promise<void> {
  const ends = [from, to.qmp].map(migrationEnd);
  try {
    for (const qmp of [from, to.qmp]) await qmp.execute('migrate-set-capabilities', migrationWith(true));
    await to.qmp.execute('migrate-incoming', { uri: 'unix:state.sock' });
    // By the other's own folder: such a path is short enough for a socket, wherever that is.
    await from.execute('migrate', { uri: `unix:/proc/${to.pid}/cwd/state.sock` });
    await Promise.all(ends.map((end) => end.ended(longestMs)));
  } finally {
    for (const end of ends) end.ignore();
  }
}

/**
 * The state of the devices goes through a socket to a file: QEMU may start no process and open no file for it.
 * @param own the folder that QEMU works in: it finds the socket there, whatever it may see of other processes
 * @throws QmpError
 */
export async function saveDevices(qmp: Qmp, own: string, file: string): Promise<void> {
  // A path through the descriptor is short enough for a socket, wherever the folder is.
  const folder = openSync(own, 'r');
  const server = createServer().listen(`/proc/self/fd/${folder}/save.sock`);
  const end = migrationEnd(qmp);
  try {
    await once(server, 'listening');
    const saved = (once(server, 'connection') as Promise<[Socket]>).then(([socket]) =>
      pipeline(socket, createWriteStream(file, { mode: 0o600, flags: 'wx' })),
    );
    saved.catch(() => {}); // the end of the migration comes first, or tells why there is none
    await qmp.execute('migrate-set-capabilities', migrationWith(false));
    await qmp.execute('migrate', { uri: 'unix:save.sock' });
    await end.ended(longestMs);
    await saved;
  } finally {
    end.ignore();
    server.close();
    closeSync(folder);
  }
}
