import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TsvError } from '../model/errors.ts';
import type { Forward } from '../model/project.ts';

export interface ForwardTarget {
  readonly machine: string;
  readonly forward: Forward;
  /** Opens a connection to the port inside the machine. */
  dial(): Promise<Duplex>;
}

const keyOf = (forward: Forward): string => `${forward.hostAddress}:${forward.hostPort}`;

/** The listening ports of one project. */
export class Forwards {
  private readonly open = new Map<string, { server: Server; target: ForwardTarget; sockets: Set<Socket> }>();

  /** Listens on every port of a machine, and on no other of that machine. @throws TSV_PORT_TAKEN naming who holds the port */
  async ensure(machine: string, targets: readonly ForwardTarget[]): Promise<void> {
    const wanted = new Map(targets.map((target) => [keyOf(target.forward), target]));
    for (const [key, entry] of this.open) {
      if (entry.target.machine === machine && wanted.get(key)?.forward.guestPort !== entry.target.forward.guestPort)
        await this.close(key);
    }
    for (const [key, target] of wanted) {
      const existing = this.open.get(key);
      if (existing === undefined) await this.listen(key, target);
      else existing.target = target;
    }
  }

  async remove(machine: string): Promise<void> {
    for (const [key, entry] of this.open) if (entry.target.machine === machine) await this.close(key);
  }

  async removeAll(): Promise<void> {
    for (const key of [...this.open.keys()]) await this.close(key);
  }

  /** Which forwards of a machine listen right now. */
  active(machine: string): Forward[] {
    return [...this.open.values()]
      .filter((entry) => entry.target.machine === machine)
      .map((entry) => entry.target.forward);
  }

  private async listen(key: string, target: ForwardTarget): Promise<void> {
    const sockets = new Set<Socket>();
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      sockets.add(socket);
      socket.once('close', () => sockets.delete(socket));
      void join(socket, this.open.get(key)?.target ?? target);
    });
    const { hostAddress, hostPort } = target.forward;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, target)));
      server.listen(hostPort, hostAddress, resolve);
    });
    this.open.set(key, { server, target, sockets });
  }

  private async close(key: string): Promise<void> {
    const entry = this.open.get(key);
    if (entry === undefined) return;
    this.open.delete(key);
    for (const socket of entry.sockets) socket.destroy();
    await new Promise((resolve) => entry.server.close(resolve));
  }
}

/** Carries bytes both ways; each end may finish sending while it still receives. */
async function join(socket: Socket, target: ForwardTarget): Promise<void> {
  socket.on('error', () => socket.destroy()); // the client's own trouble
  try {
    const other = await target.dial();
    couple(socket, other);
  } catch {
    socket.resetAndDestroy(); // nobody listens inside: the client sees a reset, as it would there
  }
}

/** Joins two streams until both are done; an error of one ends the other. */
export function couple(a: Duplex, b: Duplex): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.on('error', () => to.destroy());
    from.on('close', () => {
      if (!from.readableEnded) to.destroy();
    });
    from.pipe(to);
  }
}

/** A forward whose port somebody else has. */
export function portTaken(machine: string, forward: Forward, holder: string | undefined): TsvError {
  return new TsvError(
    'TSV_PORT_TAKEN',
    `port ${forward.hostPort} of ${forward.hostAddress}, which ${machine} forwards to its port ${forward.guestPort}, is in use${holder === undefined ? '' : ` by ${holder}`}`,
    { hint: `end that program, or change the forward of ${machine} in the Tsfile` },
  );
}

function listenError(error: NodeJS.ErrnoException, target: ForwardTarget): TsvError {
  const { hostAddress, hostPort, guestPort } = target.forward;
  const what = `port ${hostPort} of ${hostAddress}, which ${target.machine} forwards to its port ${guestPort},`;
  if (error.code === 'EADDRINUSE') return portTaken(target.machine, target.forward, portHolder(hostPort, hostAddress));
  if (error.code === 'EACCES') {
    return new TsvError('TSV_PORT_TAKEN', `${what} is not open to ordinary users`, {
      hint: 'use a port of 1024 or above',
    });
  }
  if (error.code === 'EADDRNOTAVAIL')
    return new TsvError('TSV_PORT_TAKEN', `${what}: this host has no address ${hostAddress}`, {
      hint: 'use 127.0.0.1 or 0.0.0.0',
    });
  return new TsvError('TSV_PORT_TAKEN', `${what} cannot be used: ${error.message}`, { cause: error });
}

/**
 * `nginx (pid 123)`: who listens where a listener on `address:port` would collide, as far as this user may see
 * (proc(5): net/tcp, PID/fd). `except`: a process that does not count.
 */
export function portHolder(port: number, address = '0.0.0.0', except?: number): string | undefined {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes = new Set<string>();
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of readText(file).split('\n').slice(1)) {
      const fields = line.trim().split(/\s+/);
      const [local = '', localPort] = (fields[1] ?? '').split(':');
      const listening = fields[3] === '0A' && localPort === hex && collides(local, address);
      if (listening && fields[9] !== undefined) inodes.add(`socket:[${fields[9]}]`);
    }
  }
  if (inodes.size === 0) return undefined;
  if (except !== undefined && holds(String(except), inodes)) return undefined;
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (holds(pid, inodes)) return `${readText(`/proc/${pid}/comm`).trim()} (pid ${pid})`;
  }
  return "another user's program";
}

/** /proc/net/tcp writes addresses as 32-bit words in the host's byte order; all zero is every address. */
function collides(local: string, address: string): boolean {
  const wanted = address
    .split('.')
    .reverse()
    .map((part) => Number(part).toString(16).padStart(2, '0').toUpperCase())
    .join('');
  return /^0+$/.test(local) || address === '0.0.0.0' || local.endsWith(wanted);
}

function holds(pid: string, inodes: ReadonlySet<string>): boolean {
  let fds: string[];
  try {
    fds = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return false; // another user's process, or gone
  }
  return fds.some((fd) => {
    try {
      return inodes.has(readlinkSync(`/proc/${pid}/fd/${fd}`));
    } catch {
      return false; // the descriptor was closed meanwhile
    }
  });
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // IPv6 switched off, or the process is gone
  }
}
