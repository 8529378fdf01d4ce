import { closeSync, openSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { CLONE } from '../sys/flags.ts';
import { syscall, trySyscall } from '../sys/libc.ts';

/** The thread that sits in the sandbox and makes sockets. It enters before it does anything else. */
const AF_INET = 2;
const SOCK_STREAM_CLOEXEC_NONBLOCK = 1 | 0o2000000 | 0o4000;

const { netns } = workerData as { netns: string };
const home = openSync(netns, 'r');
syscall('setns', 'entering the sandbox', home, CLONE.NEWNET);

parentPort?.on('message', (request: { id: number; netns?: string } | 'end') => {
  if (request === 'end') return end();
  try {
    const fd = request.netns === undefined ? makeSocket() : within(request.netns, makeSocket);
    parentPort?.postMessage({ id: request.id, fd });
  } catch (error) {
    parentPort?.postMessage({ id: request.id, fd: -1, error: error instanceof Error ? error.message : String(error) });
  }
});

function end(): void {
  closeSync(home);
  parentPort?.close();
}

function makeSocket(): number {
  return syscall('socket', 'making a socket in the sandbox', AF_INET, SOCK_STREAM_CLOEXEC_NONBLOCK, 0);
}

/** A namespace inside the sandbox is one from which this thread may return. */
function within<T>(path: string, work: () => T): T {
  const fd = openSync(path, 'r');
  try {
    syscall('setns', `entering ${path}`, fd, CLONE.NEWNET);
    try {
      return work();
    } finally {
      if (trySyscall('setns', home, CLONE.NEWNET) !== 0) process.exit(1); // never go on in the wrong place
    }
  } finally {
    closeSync(fd);
  }
}
