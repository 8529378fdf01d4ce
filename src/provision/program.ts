import type { Readable } from 'node:stream';
import type { ExecRequest, ExecResult, ExecSession, Transport } from '../model/provider.ts';
import { LineSplitter } from './lines.ts';

/** How long the processes of an interrupted step may take to end after TERM, and then after KILL. */
const graceMs = 5_000;
/** How long output may stay quiet after the program's end: a process in the background may hold it for ever. */
const quietMs = 500;
/** How long a program may take to be reported as ended after the way into the machine is gone. */
const lostMs = 1_000;

export type Ended =
  | { readonly how: 'exited'; readonly result: ExecResult }
  | { readonly how: 'lost'; readonly cause: unknown }
  | { readonly how: 'cancelled' };

/**
 * Runs a program with nothing on its stdin and hands its output over line by line, reading no faster than `onLine`
 * returns. Ends shortly after the program itself, whoever else still holds its output.
 */
export async function runProgram(
  transport: Transport,
  request: ExecRequest,
  onLine: (stream: 'stdout' | 'stderr', text: string) => void,
  signal: AbortSignal,
): Promise<Ended> {
  const session = await transport.exec(request);
  session.stdin.on('error', () => {}); // EPIPE: it ended without reading
  session.stdin.end();
  let lastData = performance.now();
  const read = async (stream: Readable, name: 'stdout' | 'stderr'): Promise<void> => {
    const splitter = new LineSplitter((line) => onLine(name, line));
    try {
      for await (const chunk of stream) {
        lastData = performance.now();
        splitter.push(chunk as Buffer);
      }
    } catch {
      // The stream broke off: `exited` tells why.
    }
    splitter.end();
  };
  const output = Promise.all([read(session.stdout, 'stdout'), read(session.stderr, 'stderr')]);

  const stop = interruption(session, signal);
  const ended = await Promise.race([
    session.exited.then(
      (result): Ended => ({ how: 'exited', result }),
      (cause: unknown): Ended => ({ how: 'lost', cause }),
    ),
    transport.closed.then(() => delay(lostMs)).then((): Ended => ({ how: 'lost', cause: undefined })),
    stop.givenUp.then((): Ended => ({ how: 'cancelled' })),
  ]);
  stop.done();
  await drain(output, () => performance.now() - lastData);
  session.stdout.destroy();
  session.stderr.destroy();
  await output;
  return signal.aborted ? { how: 'cancelled' } : ended;
}

/** TERM when the signal fires, KILL after a while, then no more waiting. */
function interruption(session: ExecSession, signal: AbortSignal): { givenUp: Promise<void>; done: () => void } {
  let timer: NodeJS.Timeout | undefined;
  let giveUp = () => {};
  const givenUp = new Promise<void>((resolve) => {
    giveUp = resolve;
  });
  const onAbort = () => {
    session.signal('TERM');
    timer = setTimeout(() => {
      session.signal('KILL');
      timer = setTimeout(giveUp, graceMs);
    }, graceMs);
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  const done = () => {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  };
  return { givenUp, done };
}

/** Waits for the end of the output, or until nothing came for a while. */
async function drain(output: Promise<unknown>, quietForMs: () => number): Promise<void> {
  let over = false;
  const end = output.then(() => {
    over = true;
  });
  const since = performance.now();
  while (!over && (quietForMs() < quietMs || performance.now() - since < quietMs)) {
    await Promise.race([end, delay(quietMs / 5)]);
  }
}

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
