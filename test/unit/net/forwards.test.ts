import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { Forwards, type ForwardTarget, portHolder } from '../../../src/net/forwards.ts';

/* The machine's port is a server on loopback here: dialling into a sandbox is another's work (sockets.ts). */

let machine: Server;
let forwards: Forwards;
beforeEach(async () => {
  forwards = new Forwards();
  // Echoes what it gets, and says good-bye when the other side has finished.
  machine = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => socket.write(data));
    socket.on('end', () => socket.end('bye'));
  }).listen(0, '127.0.0.1');
  await once(machine, 'listening');
});
afterEach(async () => {
  await forwards.removeAll();
  machine.close();
});

const portOf = (server: Server): number => (server.address() as AddressInfo).port;
const freePort = async (): Promise<number> => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const port = portOf(server);
  server.close();
  await once(server, 'close');
  return port;
};
const dial = async (): Promise<Duplex> => {
  const socket = connect({ port: portOf(machine), host: '127.0.0.1', allowHalfOpen: true });
  await once(socket, 'connect');
  return socket;
};
const target = (hostPort: number, change: Partial<ForwardTarget> & { guestPort?: number } = {}): ForwardTarget => ({
  machine: 'web',
  forward: { hostAddress: '127.0.0.1', hostPort, guestPort: change.guestPort ?? 80 },
  dial,
  ...change,
});
const client = (port: number) => {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
};

describe('a forward', () => {
  test('carries bytes both ways; each side may finish before the other', async () => {
    const port = await freePort();
    await forwards.ensure('web', [target(port)]);
    const socket = client(port);
    const large = Buffer.alloc(3_000_000, 'abc');
    socket.end(large);
    expect((await buffer(socket)).equals(Buffer.concat([large, Buffer.from('bye')]))).toBe(true);
  });

  test('to a port where nobody listens is a reset, as it would be there', async () => {
    const port = await freePort();
    await forwards.ensure('web', [target(port, { dial: () => Promise.reject(new Error('ECONNREFUSED')) })]);
    const [error] = (await once(client(port), 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNRESET');
  });

  test('ends its connections, and stops listening, when it is removed', async () => {
    const port = await freePort();
    await forwards.ensure('web', [target(port)]);
    const socket = client(port);
    socket.write('x');
    await once(socket, 'data');
    const closed = once(socket, 'close');
    socket.on('error', () => {});
    socket.on('end', () => socket.end());
    await forwards.remove('web');
    await closed;
    const [error] = (await once(client(port), 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    expect(forwards.active('web')).toEqual([]);
  });

  test('ensured again keeps what is open, closes what is no longer wanted, and leaves other machines alone', async () => {
    const [kept, changed, dropped, other] = [await freePort(), await freePort(), await freePort(), await freePort()];
    await forwards.ensure('db', [target(other, { machine: 'db' })]);
    await forwards.ensure('web', [target(kept), target(changed), target(dropped)]);
    const socket = client(kept);
    socket.write('still');
    await once(socket, 'data');
    await forwards.ensure('web', [target(kept), target(changed, { guestPort: 81 })]);
    socket.write('here');
    expect(String((await once(socket, 'data'))[0])).toBe('here');
    expect(forwards.active('web').map(({ hostPort, guestPort }) => [hostPort, guestPort])).toEqual([
      [kept, 80],
      [changed, 81],
    ]);
    expect(forwards.active('db').map(({ hostPort }) => hostPort)).toEqual([other]);
  });

  test('to a port that is taken says by whom', async () => {
    const taken = portOf(machine);
    const error = await forwards.ensure('web', [target(taken)]).then(
      () => expect.fail('it listens'),
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({
      code: 'TSV_PORT_TAKEN',
      message: `port ${taken} of 127.0.0.1, which web forwards to its port 80, is in use by ${portHolder(taken)}`,
      hint: expect.stringContaining('web'),
    });
    expect(portHolder(taken)).toContain(`(pid ${process.pid})`);
    expect(forwards.active('web')).toEqual([]);
  });

  test('on an address that this host does not have says so', async () => {
    const foreign = { ...target(8080), forward: { hostAddress: '192.0.2.1', hostPort: 8080, guestPort: 80 } };
    await expect(forwards.ensure('web', [foreign])).rejects.toMatchObject({
      code: 'TSV_PORT_TAKEN',
      message: expect.stringContaining('has no address 192.0.2.1'),
    });
  });
});

test('nobody holds a port that nobody listens on', async () => {
  expect(portHolder(await freePort())).toBeUndefined();
});
