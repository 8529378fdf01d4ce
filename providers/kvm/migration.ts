import { once } from 'node:events';
import { closeSync, createWriteStream, lchownSync, openSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
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

/** A QEMU that takes a machine's state over, and the folder that it works in. Both sides see that folder under this path. */
export interface Taker {
  readonly qmp: Qmp;
  readonly folder: string;
}

const stateSocket = 'state.sock';

/** Bytes per second: more than any machine moves. */
const unlimited = 2 ** 40;

/**
 * All of a machine's state, its memory too, to a QEMU that waits for it in its own folder. The machine stands still; its disks are
 * written out, and it goes on by `cont`.
 * @throws QmpError
 */
export async function moveState(from: Qmp, to: Taker): Promise<void> {
  const ends = [from, to.qmp].map(migrationEnd);
  try {
    for (const qmp of [from, to.qmp]) await qmp.execute('migrate-set-capabilities', migrationWith(true));
    // It takes 128 MiB/s unless told otherwise, for the sake of a network.
    await from.execute('migrate-set-parameters', { 'max-bandwidth': unlimited });
    await to.qmp.execute('migrate-incoming', { uri: `unix:${stateSocket}` });
    await from.execute('migrate', { uri: `unix:${join(to.folder, stateSocket)}` });
    await Promise.all(ends.map((end) => end.ended(longestMs)));
  } finally {
    for (const end of ends) end.ignore();
    rmSync(join(to.folder, stateSocket), { force: true });
  }
}

/**
 * The state of the devices goes through a socket to a file: QEMU may start no process and open no file for it.
 * @param own the folder that QEMU works in: it finds the socket there, whatever it may see of other processes
 * @param uid who may connect to it, where QEMU has a user of its own
 * @throws QmpError
 */
export async function saveDevices(
  qmp: Qmp,
  { own, file, uid }: { readonly own: string; readonly file: string; readonly uid: number | undefined },
): Promise<void> {
  // A path through the descriptor is short enough for a socket, wherever the folder is.
  const folder = openSync(own, 'r');
  const socketPath = `/proc/self/fd/${folder}/save.sock`;
  const server = createServer().listen(socketPath);
  const end = migrationEnd(qmp);
  try {
    await once(server, 'listening');
    if (uid !== undefined) lchownSync(socketPath, uid, uid);
    const saved = (once(server, 'connection') as Promise<[Socket]>).then(([socket]) =>
      pipeline(socket, createWriteStream(file, { mode: 0o600, flags: 'wx' })),
    );
    saved.catch(() => {}); // the end of the migration comes first, or tells why there is none
    await qmp.execute('migrate-set-capabilities', migrationWith(false));
    await qmp.execute('migrate', { uri: 'unix:save.sock' });
    await end.ended(longestMs);
    if (!(await within(saved, longestMs))) throw new QmpError('its state went elsewhere');
  } finally {
    end.ignore();
    server.close();
    closeSync(folder);
  }
}
