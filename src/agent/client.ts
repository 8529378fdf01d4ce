import { connect, type Socket } from 'node:net';
import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import { type Answer, type Call, lineReader, protocolVersion, type Request } from './protocol.ts';

/** Opens the agent's socket; undefined when no agent listens. */
export function openAgent(socketPath: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve(socket);
    });
    const onError = (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else
        reject(
          new TsvError('TSV_AGENT', `the project's agent cannot be reached: ${error.code ?? error.message}`, {
            details: [socketPath],
            cause: error,
          }),
        );
    };
    socket.once('error', onError);
  });
}

function send(socket: Socket, call: Call, command: string): void {
  const request: Request = { version: protocolVersion, client: { pid: process.pid, command }, call };
  socket.write(`${JSON.stringify(request)}\n`);
}

/** The agent that was asked is going, and did nothing of it: another one has to be. */
export class AgentLeaving extends Error {}

/** Calls the agent and resolves with its result. Abort closes the connection: the agent stops what it does for us. */
export function callAgent<T>(
  socket: Socket,
  call: Call,
  options: { command: string; emit: Emit; signal?: AbortSignal },
): Promise<T> {
  return new Promise((resolve, reject) => {
    let settled = false;
    let heard = false;
    const settle = (end: () => void) => {
      settled = true;
      end();
      socket.end();
    };
    socket.on(
      'data',
      lineReader((line) => {
        const answer = JSON.parse(line) as Answer;
        heard = true;
        if ('event' in answer) options.emit(answer.event);
        else if ('error' in answer) settle(() => reject(TsvError.fromJSON(answer.error)));
        else if ('again' in answer) settle(() => reject(new AgentLeaving()));
        else if ('result' in answer) settle(() => resolve(answer.result as T));
      }),
    );
    socket.on('error', () => {}); // 'close' follows and says what it means
    socket.on('end', () => socket.end());
    socket.on('close', () => {
      // It says what it is going to do before it does anything. One that leaves closes what it has not looked at yet.
      if (!settled) reject(heard ? agentGone() : new AgentLeaving());
    });
    // The agent ends its running steps and answers with what was done: half-closing is how it hears of the interrupt.
    options.signal?.addEventListener('abort', () => socket.end(), { once: true });
    send(socket, call, options.command);
  });
}

export const agentGone = () =>
  new TsvError('TSV_AGENT', "the project's agent ended in the middle of this command", {
    details: ['its log: .ts-vm/agent.log'],
    hint: 'run the command again: what was done is known, and it goes on from there',
  });

export interface StreamOptions {
  /** Gets what is told before the stream begins. */
  readonly emit?: Emit;
  /** Gives it up, until the stream begins. */
  readonly signal?: AbortSignal;
  /** What is thrown when the agent goes without having done anything. */
  readonly gone?: () => Error;
}

/** Calls for a stream. Resolves with the socket once the agent has said that the stream begins, and what already came. */
export function openStream(
  socket: Socket,
  call: Call,
  command: string,
  { emit, signal, gone = agentGone }: StreamOptions = {},
): Promise<{ socket: Socket; rest: Buffer; direct: boolean }> {
  return new Promise((resolve, reject) => {
    let rest = Buffer.alloc(0);
    let heard = false;
    const reader = lineReader(
      (line, stop) => {
        const answer = JSON.parse(line) as Answer;
        heard = true;
        if ('event' in answer) return emit?.(answer.event);
        stop();
        signal?.removeEventListener('abort', interrupt);
        socket.off('data', reader);
        socket.pause();
        // The rest of the same chunk is delivered right after this callback.
        queueMicrotask(() => {
          if ('stream' in answer) resolve({ socket, rest, direct: answer.direct === true });
          else {
            socket.destroy();
            reject('error' in answer ? TsvError.fromJSON(answer.error) : gone());
          }
        });
      },
      (bytes) => {
        rest = Buffer.concat([rest, bytes]);
      },
    );
    socket.on('data', reader);
    socket.on('error', () => {});
    const onGone = () => reject(heard ? agentGone() : gone());
    socket.once('end', onGone);
    socket.once('close', onGone);
    // As with a call. It answers when it has undone what it did.
    const interrupt = () => void socket.end();
    signal?.addEventListener('abort', interrupt, { once: true });
    send(socket, call, command);
    if (signal?.aborted === true) interrupt();
  });
}
