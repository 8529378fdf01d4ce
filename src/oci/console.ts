import { closeSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { TsvError } from '../model/errors.ts';
import { errnoName } from '../sys/errno.ts';
import { syscall, trySyscall, withBytes } from '../sys/libc.ts';
import { keepTerminal, resizeTerminal } from '../sys/terminal.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;

/** Connects to a console socket: the master of a container's terminal is sent to it. @throws TSV_USAGE */
export function connectConsole(path: string): number {
  const address = Buffer.alloc(110);
  address.writeUInt16LE(AF_UNIX, 0);
  const bytes = Buffer.from(path);
  if (bytes.length > 107)
    throw new TsvError('TSV_USAGE', `--console-socket: the path is longer than 107 bytes: ${path}`);
  address.set(bytes, 2);
  const fd = syscall('socket', 'the console socket', AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const result = withBytes(address, (pointer) => trySyscall('connect', fd, pointer, 2 + bytes.length + 1));
  if (result < 0) {
    closeSync(fd);
    throw new TsvError('TSV_USAGE', `--console-socket: ${path}: ${errnoName(-result)}`);
  }
  return fd;
}

/** Two connected sockets: one for the container to send its terminal to, one to receive it from. */
export function consolePair(): { readonly send: number; readonly receive: number } {
  return withBytes(new Uint8Array(8), (pointer, bytes) => {
    syscall('socketpair', 'a socket for the terminal', AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pointer);
    return { send: bytes.readInt32LE(0), receive: bytes.readInt32LE(4) };
  });
}

/** Takes the descriptor that was sent: recvmsg(2), cmsg(3). It has been sent by then. */
export function receiveTerminal(socket: number): number {
  const MSG_CMSG_CLOEXEC = 0x40000000;
  const [data, control, vector, header] = [0, 64, 128, 160];
  return withBytes(new Uint8Array(256), (pointer, bytes) => {
    bytes.writeBigUInt64LE(pointer + BigInt(data), vector);
    bytes.writeBigUInt64LE(64n, vector + 8);
    bytes.writeBigUInt64LE(pointer + BigInt(vector), header + 16);
    bytes.writeBigUInt64LE(1n, header + 24);
    bytes.writeBigUInt64LE(pointer + BigInt(control), header + 32);
    bytes.writeBigUInt64LE(64n, header + 40);
    syscall('recvmsg', 'receiving the terminal', socket, pointer + BigInt(header), MSG_CMSG_CLOEXEC);
    return bytes.readInt32LE(control + 16);
  });
}

/**
 * Joins this process's terminal with the container's.
 * @returns what waits for the last output, and puts everything back: to be called when the process has ended
 */
export function proxyTerminal(master: number): () => Promise<void> {
  const { stdin, stdout } = process;
  const kept = keepTerminal(master);
  const resize = () => resizeTerminal(kept, { width: stdout.columns || 80, height: stdout.rows || 24 });
  resize();
  const terminal = new ReadStream(master) as ReadStream & NodeJS.WritableStream;
  terminal.on('data', (data: Buffer) => {
    if (!stdout.write(data)) {
      terminal.pause();
      stdout.once('drain', () => terminal.resume());
    }
  });
  terminal.on('error', () => {}); // EIO: nobody holds the other end any more
  const over = new Promise<void>((resolve) => terminal.once('close', () => resolve()));
  const onInput = (data: Buffer) => {
    terminal.write(data);
  };
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on('data', onInput);
  stdout.on('resize', resize);
  return async () => {
    await over;
    stdin.off('data', onInput);
    stdin.pause();
    stdout.off('resize', resize);
    if (stdin.isTTY) stdin.setRawMode(false);
    terminal.destroy();
    closeSync(kept);
  };
}
