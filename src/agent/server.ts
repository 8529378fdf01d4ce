import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { TsvError, toTsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { ExecSession } from '../model/provider.ts';
import { laps } from '../model/timings.ts';
import { watchExit } from '../sys/children.ts';
import { Mutex } from '../sys/mutex.ts';
import { processRef } from '../sys/process.ts';
import type { Answer, Call, ForwardsResult, Request, WaitResult } from './protocol.ts';
import { lineReader, protocolVersion } from './protocol.ts';
import type { Service } from './service.ts';
import { serveConnect, serveSession } from './streams.ts';

/**
 * The agent's socket. Commands that change the project run one after the other, in the order in which they came;
 * the others (exec, connect) do not wait, nor does the command of a one-off once it runs.
 */
export class AgentServer {
  private readonly server: Server;
  private readonly service: Service;
  private readonly queue = new Mutex();
  private running: { pid: number; command: string; since: string } | undefined;
  private connections = 0;
  /** One-offs that run, whether or not who wanted them is still connected. */
  private oneOffs = 0;
  private retired = false;
  /** Called whenever the last connection has ended. */
  onIdle: () => void = () => {};
  /** Called when a command begins, and with undefined when it has ended. */
  onCommand: (running: { pid: number; command: string; since: string } | undefined) => void = () => {};

  constructor(service: Service) {
    this.service = service;
    this.server = createServer({ allowHalfOpen: true }, (socket) => this.accept(socket));
  }

  get isRetired(): boolean {
    return this.retired;
  }

  get connected(): number {
    return this.connections;
  }

  /** Somebody is connected, or a command still runs: whoever gave it may be gone already. */
  get busy(): boolean {
    return this.connections > 0 || this.running !== undefined || this.oneOffs > 0;
  }

  async listen(path: string): Promise<void> {
    rmSync(path, { force: true }); // we hold the project's lock: whoever listened here is gone
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
  }

  /** Takes no more commands: those that come or wait are sent to the next agent. */
  retire(): void {
    this.retired = true;
    this.server.close();
  }

  private accept(socket: Socket): void {
    this.connections++;
    const abort = new AbortController();
    const interrupt = () => abort.abort(new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 }));
    socket.on('error', () => {}); // the command is gone; 'close' follows
    socket.on('close', () => {
      interrupt();
      this.connections--;
      if (!this.busy) this.onIdle();
    });
    // Whoever goes away without a request keeps nobody here.
    const dropEarly = () => socket.destroy();
    socket.once('end', dropEarly);
    const early: Buffer[] = [];
    let onRest = (rest: Buffer) => {
      early.push(rest);
    };
    const reader = lineReader(
      (line, stop) => {
        stop();
        socket.off('data', reader);
        socket.off('end', dropEarly);
        socket.pause();
        const takeRest = (handler: (rest: Buffer) => void) => {
          onRest = handler;
          for (const rest of early.splice(0)) handler(rest);
        };
        void this.answer(socket, line, { signal: abort.signal, interrupt }, takeRest);
      },
      (rest) => onRest(rest),
    );
    socket.on('data', reader);
  }

  private async answer(
    socket: Socket,
    line: string,
    { signal, interrupt }: Pick<Client, 'signal' | 'interrupt'>,
    takeRest: Client['takeRest'],
  ): Promise<void> {
    const send = (answer: Answer) => {
      if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
    };
    try {
      const request = parseRequest(line);
      const { call } = request;
      if (call.do === 'exec') {
        const open = () => this.service.exec(call.machine, call.request);
        await serveSession(socket, open, () => send({ stream: true }), takeRest);
      } else if (call.do === 'one-off') {
        await this.oneOff(request, call, { socket, send, takeRest, signal, interrupt });
      } else if (call.do === 'attach') {
        const open = () => this.service.attach(call.machine);
        await serveSession(socket, open, () => send({ stream: true }), takeRest);
      } else if (call.do === 'pack' || call.do === 'unpack') {
        await serveSession(
          socket,
          () => this.service.copy(call),
          ({ direct = false }) => send({ stream: true, direct }),
          takeRest,
        );
      } else if (call.do === 'connect') {
        await serveConnect(socket, this.service, call.machine, signal, () => send({ stream: true }), takeRest);
      } else {
        // The command has nothing more to say. When it ends its side, or goes, it was interrupted: reading notices.
        socket.once('end', interrupt);
        socket.resume();
        send({ result: await this.call(request, call, (event) => send({ event }), signal) });
        socket.end();
      }
    } catch (error) {
      if (error instanceof Retired) send({ again: true });
      else send({ error: toTsvError(error).toJSON() });
      socket.end();
      socket.resume(); // what it still says is for nobody; unread, it would keep the connection
    }
  }

  /** A container for one command, which goes with it, and with whoever wanted it. */
  private async oneOff(
    request: Request,
    call: Extract<Call, { do: 'one-off' }>,
    { socket, send, takeRest, signal, interrupt }: Client,
  ): Promise<void> {
    const { oneOffs } = this.service;
    // Its end of the connection may go unnoticed, behind input that the command does not read.
    const { pid } = request.client;
    const client = processRef(pid) === undefined ? undefined : watchExit(pid);
    void client?.exited.then(interrupt);
    socket.once('end', interrupt);
    socket.resume();
    this.oneOffs++;
    try {
      const emit: Emit = (event) => send({ event });
      const name = await this.inTurn(request, emit, signal, () => oneOffs.start(call, emit, signal));
      const end = () => oneOffs.end(name);
      try {
        const open = async (): Promise<ExecSession> => {
          signal.throwIfAborted();
          const session = await this.service.exec(name, call.request);
          // Whatever the command makes of a hangup.
          const gone = (): void => {
            socket.destroy();
            end().catch(() => {}); // nobody is there to hear of it; the next agent tries again
          };
          if (signal.aborted) gone();
          else signal.addEventListener('abort', gone, { once: true });
          return { ...session, exited: session.exited.then((result) => end().then(() => result)) };
        };
        await serveSession(socket, open, () => send({ stream: true }), takeRest);
      } finally {
        await end();
      }
    } finally {
      client?.forget();
      this.oneOffs--;
      if (!this.busy) this.onIdle();
    }
  }

  private async call(
    request: Request,
    call: Exclude<Call, { do: 'exec' | 'attach' | 'pack' | 'unpack' | 'connect' | 'one-off' }>,
    emit: Emit,
    signal: AbortSignal,
  ): Promise<unknown> {
    switch (call.do) {
      case 'run': {
        const waits = this.running !== undefined;
        const lap = laps(waits && call.timings === true ? emit : undefined, performance.now());
        return this.inTurn(request, emit, signal, () => {
          lap('other commands');
          return this.service.run(call.command, call.parallel, emit, signal, call.timings);
        });
      }
      case 'signal':
        // Not in turn: it is how a command that waits for a machine is helped on.
        await this.service.signal(call.machines, call.signal);
        return null;
      case 'forwards':
        return { active: this.service.activeForwards() } satisfies ForwardsResult;
      case 'wait':
        return { machines: await this.service.wait(call, signal) } satisfies WaitResult;
      case 'leave':
        return this.inTurn(request, emit, signal, () => this.service.leave());
    }
  }

  private async inTurn<T>(request: Request, emit: Emit, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    if (this.running !== undefined) {
      emit({ type: 'waiting', forCommand: this.running.command, pid: this.running.pid, since: this.running.since });
    }
    return this.queue.run(async () => {
      signal.throwIfAborted();
      if (this.retired) throw new Retired();
      this.running = { ...request.client, since: new Date().toISOString() };
      this.onCommand(this.running);
      try {
        return await work();
      } finally {
        this.running = undefined;
        this.onCommand(undefined);
        if (!this.busy) this.onIdle();
      }
    });
  }
}

/** A connection whose request has been read. */
interface Client {
  readonly socket: Socket;
  send(answer: Answer): void;
  takeRest(handler: (rest: Buffer) => void): void;
  /** Fires when it is gone. */
  readonly signal: AbortSignal;
  interrupt(): void;
}

class Retired extends Error {}

function parseRequest(line: string): Request {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new TsvError('TSV_PROTOCOL', 'the agent received something that is no request', { cause });
  }
  const request = value as Request;
  if (typeof value !== 'object' || value === null || request.version !== protocolVersion) {
    throw new TsvError('TSV_PROTOCOL', 'this tsv and the running agent are of different versions', {
      hint: 'tsv halt with the old version, then run the command again',
    });
  }
  return request;
}
