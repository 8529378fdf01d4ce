import { constants } from 'node:os';
import { Readable, Writable } from 'node:stream';
import type { ClientChannel } from 'ssh2';
import type { TsvError } from '../model/errors.ts';
import type { ExecResult, ExecSession } from '../model/provider.ts';

/** How long output may stay quiet after the program's end while some background process still holds it open. */
const quietMs = 300;

/** ssh2 1.17 sends this only while its side of the channel is open; a terminal may be resized after stdin's end. */
interface Requests {
  windowChange(channel: number, rows: number, cols: number, height: number, width: number): void;
}

export interface SessionOptions {
  /** Goes to stdin before anything else. */
  readonly head: string;
  readonly pty: boolean;
  /** How the connection ended, when it ended before the program did. */
  readonly lost: () => TsvError;
  /** The line `TOKEN PROCESS-GROUP` is taken out of stderr (out of the terminal's output). */
  readonly token: string;
  /** Signals a process group of the machine. */
  readonly kill: (group: number, name: string) => void;
}

/**
 * A running remote program as an ExecSession. `exited` rejects with TSV_SSH when the connection breaks or the
 * session ends without a status: never a silent success. stdin drops what is written after the program's end.
 */
export function remoteSession(channel: ClientChannel, options: SessionOptions): ExecSession {
  let result: ExecResult | undefined;
  let closed = false;
  let lastData = 0;
  let blocked = 0; // readers that are behind: their silence says nothing about the program

  let group: number | undefined;
  const earlySignals: string[] = [];
  const started = (processGroup: number) => {
    group = processGroup;
    for (const name of earlySignals) options.kill(group, name);
  };

  const sink = (source: Readable, strip: (chunk: Buffer | null) => Buffer): Readable => {
    let paused = false;
    const target = new Readable({
      highWaterMark: 256 * 1024,
      read() {
        if (paused) blocked--;
        paused = false;
        lastData = performance.now();
        source.resume();
      },
      destroy(error, done) {
        if (paused) blocked--;
        paused = false;
        source.resume(); // nobody reads any more: what still comes is dropped
        done(error);
      },
    });
    source.on('data', (chunk: Buffer) => {
      lastData = performance.now();
      const bytes = strip(chunk);
      if (bytes.length === 0 || target.destroyed || target.readableEnded || target.push(bytes)) return;
      paused = true;
      blocked++;
      source.pause();
    });
    source.on('end', () => {
      if (!target.destroyed) {
        target.push(strip(null));
        target.push(null);
      }
      settle();
    });
    return target;
  };

  let resolveExit: (result: ExecResult) => void = () => {};
  let rejectExit: (error: TsvError) => void = () => {};
  const exited = new Promise<ExecResult>((resolve, reject) => {
    resolveExit = resolve;
    rejectExit = reject;
  });
  exited.catch(() => {}); // whoever waits for it sees the rejection; nobody must

  const out: Readable = channel;
  const err: Readable = channel.stderr;
  const stdout = sink(out, options.pty ? announcement(options.token, started) : asItIs);
  const stderr = options.pty ? Readable.from([]) : sink(err, announcement(options.token, started));
  if (options.pty) err.resume();

  let pendingWrite: (() => void) | undefined;
  const stdin = new Writable({
    highWaterMark: 256 * 1024,
    write(chunk: Buffer, _encoding, done) {
      if (closed) return done();
      // ssh2 never calls back for what is still unsent when a channel closes.
      const once = () => {
        pendingWrite = undefined;
        done();
      };
      pendingWrite = once;
      channel.write(chunk, () => {
        if (pendingWrite === once) once();
      });
    },
    final(done) {
      if (!closed) channel.end();
      done();
    },
  });

  function settle(): void {
    if (result !== undefined && out.readableEnded && (options.pty || err.readableEnded)) resolveExit(result);
  }

  /** The program has ended, its output has not: a background process holds it. Take what comes, then let go. */
  function drain(): void {
    const timer = setInterval(() => {
      if (closed) return clearInterval(timer);
      if (blocked > 0 || performance.now() - lastData < quietMs) return;
      clearInterval(timer);
      channel.close();
      if (!stdout.destroyed) stdout.push(null);
      if (!options.pty && !stderr.destroyed) stderr.push(null);
      if (result !== undefined) resolveExit(result);
    }, quietMs / 3);
  }

  channel.on('exit', (code: number | null, signal?: string) => {
    const name = signal?.replace(/^SIG/, '');
    const number = constants.signals[`SIG${name}` as NodeJS.Signals] ?? 127;
    result = name === undefined ? { code: code ?? 255 } : { code: 128 + number, signal: name };
    lastData = performance.now();
    settle();
    drain();
  });
  channel.on('close', () => {
    closed = true;
    pendingWrite?.();
    if (result === undefined) rejectExit(options.lost());
    else settle();
  });
  channel.on('error', () => {}); // 'close' follows and tells

  if (options.head !== '') channel.write(options.head);
  const { _client, outgoing } = channel as unknown as {
    _client: { _protocol?: Requests };
    outgoing: { id: number };
  };
  return {
    stdin,
    stdout,
    stderr,
    exited,
    resize(cols, rows) {
      if (!closed && options.pty) _client._protocol?.windowChange(outgoing.id, rows, cols, 0, 0);
    },
    signal(name) {
      if (closed || result !== undefined) return;
      if (group === undefined) earlySignals.push(name);
      else options.kill(group, name);
    },
  };
}

const nothing = Buffer.alloc(0);
const asItIs = (chunk: Buffer | null): Buffer => chunk ?? nothing;

/** Takes the line `TOKEN PROCESS-GROUP` out of a stream; `null` ends the stream and gives what is still held. */
function announcement(token: string, found: (group: number) => void): (chunk: Buffer | null) => Buffer {
  let held: Buffer | undefined = nothing;
  return (chunk) => {
    if (held === undefined) return chunk ?? nothing;
    held = Buffer.concat([held, chunk ?? nothing]);
    const start = held.indexOf(`${token} `);
    const end = start < 0 ? -1 : held.indexOf('\n', start);
    if (end < 0 && chunk !== null && held.length < 65536) return nothing;
    const all: Buffer = held;
    held = undefined;
    if (end < 0) return all;
    found(Number(all.toString('latin1', start + token.length + 1, end)));
    return Buffer.concat([all.subarray(0, start), all.subarray(end + 1)]);
  };
}
