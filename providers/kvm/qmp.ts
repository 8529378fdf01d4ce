import { createConnection, type Socket } from 'node:net';

/** What QMP itself answers with, or how the conversation broke. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  /** `GenericError`, `CommandNotFound`, …; absent when the conversation broke. */
  readonly errorClass: string | undefined;
  constructor(message: string, errorClass?: string) {
    super(message);
    this.errorClass = errorClass;
  }
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

/** One QMP conversation. QEMU serves one at a time: a second client waits for its greeting. */
export interface Qmp {
  /** Sends a command and gives its `return`. Rejects with a QmpError; never waits longer than `timeoutMs` (10 s). */
  execute(
    command: string,
    args?: Readonly<Record<string, unknown>>,
    options?: { timeoutMs?: number },
  ): Promise<unknown>;
  /** Calls `listener` with every event from now on; the result ends that. */
  onEvent(listener: (event: QmpEvent) => void): () => void;
  /** Fires once, when the conversation is over, for whatever reason. */
  readonly closed: Promise<void>;
  close(): void;
}

/** Longer lines than any answer to our commands: a bound on memory, not a limit of QMP. */
const maxLineBytes = 4 << 20;

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Connects to a QMP unix socket and negotiates capabilities (QEMU's docs/interop/qmp-spec).
 * @throws the connect error of the socket (ENOENT, ECONNREFUSED), or QmpError when no greeting comes within `timeoutMs`.
 */
export async function connectQmp(path: string, options: { timeoutMs?: number } = {}): Promise<Qmp> {
  const timeoutMs = options.timeoutMs ?? 5000;
  const socket = createConnection({ path });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', reject);
  });
  return converseQmp(socket, timeoutMs);
}

/** The same over a socket that is connected. */
export async function converseQmp(socket: Socket, timeoutMs: number): Promise<Qmp> {
  const conversation = converse(socket);
  try {
    await bounded(conversation.greeting, timeoutMs, 'the QMP greeting');
    await conversation.qmp.execute('qmp_capabilities', {}, { timeoutMs });
  } catch (error) {
    conversation.qmp.close();
    throw error;
  }
  return conversation.qmp;
}

function converse(socket: Socket): { qmp: Qmp; greeting: Promise<void> } {
  const pending = new Map<number, Pending>();
  const listeners = new Set<(event: QmpEvent) => void>();
  let lastId = 0;
  let over: Error | undefined;
  let greeted = () => {};
  let refused = (_: Error) => {};
  const greeting = new Promise<void>((resolve, reject) => {
    greeted = resolve;
    refused = reject;
  });
  greeting.catch(() => {}); // also reported through `bounded`; must not count as unhandled when that lost patience first

  const finish = (error: Error) => {
    if (over !== undefined) return;
    over = error;
    refused(error);
    for (const { reject } of pending.values()) reject(error);
    pending.clear();
  };
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      finish(new QmpError('QEMU closed the QMP conversation'));
      resolve();
    });
  });
  socket.on('error', (error) => finish(new QmpError(`QMP: ${error.message}`)));

  const receive = (message: Readonly<Record<string, unknown>>) => {
    if ('QMP' in message) return greeted();
    if (typeof message.event === 'string') {
      const event = { event: message.event, data: asObject(message.data) };
      for (const listener of listeners) listener(event);
      return;
    }
    const id = message.id;
    if (typeof id !== 'number') return; // an answer to nobody: QEMU could not read a line, which we never send
    const waiting = pending.get(id);
    pending.delete(id);
    if ('error' in message) {
      const { class: errorClass, desc } = asObject(message.error);
      waiting?.reject(new QmpError(String(desc), String(errorClass)));
    } else {
      waiting?.resolve(message.return);
    }
  };

  let buffer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (buffer + text).split('\n');
    buffer = lines.pop() ?? '';
    try {
      for (const line of lines) if (line.trim() !== '') receive(asObject(JSON.parse(line)));
      if (buffer.length > maxLineBytes) throw new Error(`a line is longer than ${maxLineBytes} bytes`);
    } catch (error) {
      finish(new QmpError(`QMP: ${error instanceof Error ? error.message : String(error)}`));
      socket.destroy();
    }
  });

  const qmp: Qmp = {
    execute(command, args = {}, { timeoutMs = 10_000 } = {}) {
      if (over !== undefined) return Promise.reject(over);
      const id = ++lastId;
      const answer = new Promise<unknown>((resolve, reject) => pending.set(id, { resolve, reject }));
      socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      return bounded(answer, timeoutMs, `QMP ${command}`).finally(() => pending.delete(id));
    },
    onEvent(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    closed,
    close: () => void socket.destroy(),
  };
  return { qmp, greeting };
}

async function bounded<T>(work: Promise<T>, timeoutMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new QmpError(`${what}: no answer within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** QMP messages are JSON objects; anything else reads as an empty one. */
export function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/** RunState of QEMU's QAPI: `prelaunch`, `running`, `paused`, `shutdown`, … */
export async function runState(qmp: Qmp, timeoutMs?: number): Promise<string> {
  const answer = await qmp.execute('query-status', {}, timeoutMs === undefined ? {} : { timeoutMs });
  return String(asObject(answer).status);
}
