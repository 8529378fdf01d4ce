import { fstatSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { openStream } from '../agent/client.ts';
import { encodeFrame, frame, replyReader } from '../agent/protocol.ts';
import { machineAgent } from '../app/machine.ts';
import { TsvError } from '../model/errors.ts';
import type { Session } from './program.ts';

export interface RunInMachine {
  readonly argv: readonly string[];
  readonly user: string;
  readonly cwd?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly terminal: boolean;
}

/** Runs a command in a machine with this process's own input, output and terminal. Resolves with its exit code. */
export async function runInMachine(session: Session, name: string, options: RunInMachine): Promise<number> {
  const agent = await machineAgent(session.place, name);
  const request = {
    argv: options.argv,
    user: options.user,
    env: options.env,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.terminal ? { pty: terminalOf(session) } : {}),
  };
  const opening = openStream(agent, { do: 'exec', machine: name, request }, session.commandLine);
  const onSignal = (signal: NodeJS.Signals) => agent.write(encodeFrame(frame.signal, signal.slice(3)));
  let leaveInput = (): void => {};
  try {
    // The agent keeps it until the command runs. A terminal is left alone until then: Ctrl-C ends the wait.
    if (!options.terminal) leaveInput = passInput(session, agent);
    const { socket, rest } = await opening;
    if (options.terminal) {
      leaveInput = passTerminal(session, agent);
    } else {
      for (const signal of signals) process.on(signal, onSignal);
    }
    return await printOutput(session, socket, rest, name);
  } finally {
    leaveInput();
    for (const signal of signals) process.off(signal, onSignal);
    // It goes with this process. To destroy it now would make Node load standard error, to look whether that is it.
    agent.unref();
  }
}

/** What a command is given in place of our terminal. */
export const terminalOf = (session: Session) => ({ ...sizeOf(session), term: session.place.env.TERM ?? 'xterm' });

const sizeOf = ({ stdout }: Session) => ({ cols: stdout.columns || 80, rows: stdout.rows || 24 });

/** Those that are passed on to a command. */
export const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Gives our terminal to what has one of its own: keys as they are typed, and the size.
 * @param filter as of {@link passInput}
 * @returns what ends that
 */
export function passTerminal(session: Session, agent: Socket, filter?: (typed: Buffer) => Buffer): () => void {
  const onResize = () => agent.write(encodeFrame(frame.resize, JSON.stringify(sizeOf(session))));
  session.stdin.setRawMode(true);
  session.stdout.on('resize', onResize);
  const leaveInput = passInput(session, agent, filter);
  return () => {
    leaveInput();
    session.stdin.setRawMode(false);
    session.stdout.off('resize', onResize);
  };
}

/**
 * Prints what comes over a stream, to its end. Resolves with the exit code; with that of a SIGPIPE where nobody reads our
 * output any more.
 */
export function printOutput(session: Session, socket: Socket, rest: Buffer, name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    session.stdout.once('error', () => resolve(128 + constants.signals.SIGPIPE));
    const print = (out: NodeJS.WriteStream, content: Buffer) => {
      if (out.destroyed || out.write(content)) return;
      socket.pause();
      out.once('drain', () => socket.resume());
    };
    const read = replyReader({
      stdout: (content) => print(session.stdout, content),
      stderr: (content) => print(session.stderr, content),
      exit: ({ code }) => resolve(code),
      error: reject,
    });
    socket.on('end', () => socket.destroy());
    socket.on('close', () =>
      reject(new TsvError('TSV_SSH', `the connection to ${name} is gone`, { hint: 'tsv status' })),
    );
    socket.on('data', read);
    read(rest);
    socket.resume();
  });
}

/**
 * Gives our input to the agent as it comes.
 * @param filter gives back what of it is for the agent
 * @returns what ends that
 */
export function passInput(session: Session, agent: Socket, filter = (typed: Buffer) => typed): () => void {
  const onEnd = () => agent.write(encodeFrame(frame.eof));
  if (isNullDevice(0)) {
    onEnd(); // Node would need longer to open it as a stream than the agent to run the command
    return () => {};
  }
  const { stdin } = session;
  const onData = (chunk: Buffer) => {
    if (agent.write(encodeFrame(frame.stdin, filter(chunk)))) return;
    stdin.pause();
    agent.once('drain', () => stdin.resume());
  };
  stdin.on('data', onData);
  stdin.on('end', onEnd);
  return () => {
    stdin.off('data', onData);
    stdin.off('end', onEnd);
    stdin.pause();
    stdin.unref?.();
  };
}

/** null(4): character device 1:3. */
function isNullDevice(fd: number): boolean {
  const stat = fstatSync(fd);
  return stat.isCharacterDevice() && stat.rdev === 0x103;
}
