import { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { TsvError } from '../model/errors.ts';

/**
 * TCP connections that start inside a network namespace. A socket belongs to the namespace of the thread that made it,
 * whoever uses it afterwards; so one thread sits in the sandbox and makes sockets, and this one connects and reads them.
 * (This thread cannot enter and come back: leaving the host's namespace is possible without root, returning is not.)
 */
export class SocketFactory {
  private readonly worker: Worker;
  private readonly waiting = new Map<number, { resolve: (fd: number) => void; reject: (error: Error) => void }>();
  private readonly exited: Promise<void>;
  private nextId = 1;
  /** Set when the thread is gone: every later request fails with it. */
  private failure: TsvError | undefined;

  /** @param netns path of the namespace to sit in, e.g. `/proc/123/ns/net` */
  constructor(netns: string, workerFile: string) {
    this.worker = new Worker(workerFile, { workerData: { netns } });
    this.worker.unref();
    this.worker.on('message', (reply: { id: number; fd: number; error?: string }) => {
      const waiter = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if (reply.error !== undefined) waiter?.reject(new TsvError('TSV_NETWORK', reply.error));
      else waiter?.resolve(reply.fd);
    });
    const fail = (why: string, cause?: unknown) => {
      this.failure ??= new TsvError('TSV_SANDBOX', 'the sandbox could not be entered', { cause, details: [why] });
      for (const waiter of this.waiting.values()) waiter.reject(this.failure);
      this.waiting.clear();
    };
    this.worker.on('error', (error) => fail(error.message, error));
    this.exited = new Promise((resolve) => {
      this.worker.on('exit', (code) => {
        fail(`its socket thread ended with ${code}`);
        resolve();
      });
    });
  }

  /** An unconnected TCP socket of the sandbox, or of another namespace inside it. */
  private socket(netns?: string): Promise<number> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, netns });
    });
  }

  /** @throws TSV_NETWORK with the errno when nobody answers there */
  async dial(host: string, port: number, options: { timeoutMs?: number; netns?: string } = {}): Promise<Socket> {
    const fd = await this.socket(options.netns);
    // manualStart: reading starts with the connection, not before.
    const socket = new Socket({ fd, allowHalfOpen: true, manualStart: true } as ConstructorParameters<
      typeof Socket
    >[0]);
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        socket.destroy();
        reject(new TsvError('TSV_NETWORK', `no connection to ${host}:${port}: ${why}`));
      };
      const timer =
        options.timeoutMs === undefined ? undefined : setTimeout(() => fail('timed out'), options.timeoutMs);
      const onError = (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        fail(error.code ?? error.message);
      };
      socket.once('error', onError);
      socket.connect(port, host, () => {
        clearTimeout(timer);
        socket.off('error', onError);
        socket.setNoDelay(true);
        resolve(socket);
      });
    });
  }

  /** The thread ends by itself, when it has come so far: ended from outside while it loads koffi, it takes the process along. */
  async close(): Promise<void> {
    this.worker.ref();
    this.worker.postMessage('end');
    await this.exited;
  }
}
