import { randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, unlinkSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { openStream } from '../agent/client.ts';
import { type Call, encodeFrame, frame, replyReader } from '../agent/protocol.ts';
import { TsvError } from '../model/errors.ts';
import { ensureRunDir } from '../state/paths.ts';
import { enlargePipe, makeFifo } from '../sys/fifo.ts';
import { machineAgent } from './machine.ts';
import { findProjectDir, type Place } from './place.ts';

const wordsBytes = 1 << 16;
const pipeBytes = 1 << 20;

/** A copy that a project's agent makes for us: an archive comes out of it, or goes into it. */
export class MachineCopy {
  /** The archive of what is packed. */
  readonly output: Readable;
  /** What it says besides, when it has ended well. Rejects with TSV_COPY, or what else went wrong. */
  readonly done: Promise<readonly string[]>;
  private readonly socket: Socket;
  /** Where the archive goes to; absent: with the socket's frames. */
  private readonly input: Socket | undefined;

  static async open(
    place: Place,
    call: Extract<Call, { do: 'pack' | 'unpack' }>,
    commandLine: string,
  ): Promise<MachineCopy> {
    const agent = await machineAgent(place, call.machine);
    const fifo = Fifo.make(place);
    try {
      const request = { ...call.request, through: fifo.path };
      const { socket, rest, direct } = await openStream(agent, { ...call, request } as typeof call, commandLine);
      return new MachineCopy(call, socket, rest, direct ? fifo : undefined);
    } finally {
      fifo.remove();
    }
  }

  private constructor(call: Extract<Call, { do: 'pack' | 'unpack' }>, socket: Socket, rest: Buffer, fifo?: Fifo) {
    this.socket = socket;
    this.input = call.do === 'unpack' ? fifo?.openEnd('w') : undefined;
    this.input?.on('error', () => {}); // the copy has ended, and says why
    const framed = new PassThrough({ highWaterMark: 1 << 20 });
    const direct = call.do === 'pack' ? fifo?.openEnd('r') : undefined;
    this.output = direct ?? framed;
    let said = '';
    this.done = new Promise((resolve, reject) => {
      const read = replyReader({
        stdout: (content) => {
          if (framed.write(content)) return;
          socket.pause();
          framed.once('drain', () => socket.resume());
        },
        stderr: (content) => {
          said = (said + content.toString('utf8')).slice(0, wordsBytes);
        },
        exit: ({ code }) => {
          const lines = said.split('\n').filter((line) => line !== '');
          if (code === 0) resolve(lines);
          else reject(copyFailed(call.machine, lines, code));
          framed.end();
        },
        error: reject,
      });
      socket.on('data', read);
      socket.on('end', () => socket.destroy());
      socket.on('close', () => {
        reject(new TsvError('TSV_COPY', `${call.machine}: the connection is gone`, { hint: 'tsv status' }));
        framed.end();
      });
      read(rest);
      socket.resume();
    });
    direct?.on('error', () => {}); // for whoever reads it
    // Whoever waits for it hears of it; the archive is over, too.
    this.done.catch((error: Error) => {
      this.input?.destroy();
      direct?.destroy(error);
    });
  }

  /** Gives it more of the archive. @throws why it takes no more */
  async write(chunk: Buffer): Promise<void> {
    const { input, socket } = this;
    const to = input ?? socket;
    if (to.write(input === undefined ? encodeFrame(frame.stdin, chunk) : chunk)) return;
    const drained = new Promise<void>((resolve) => to.once('drain', resolve));
    await Promise.race([drained, this.done]);
  }

  /** The archive is over. */
  async end(): Promise<readonly string[]> {
    const { input, socket } = this;
    if (input === undefined) socket.write(encodeFrame(frame.eof));
    // A FIFO cannot be shut down, only closed.
    else input.write('', () => input.destroy());
    return this.done;
  }

  /** Without effect when it is over. What it was about to write is not left. */
  abandon(): void {
    this.input?.destroy();
    this.output.destroy();
    this.socket.destroy();
  }
}

/** A FIFO in the project's run folder, for an archive that the agent need not see: it is open at both ends until removed. */
class Fifo {
  readonly path: string;
  private readonly both: number;

  static make(place: Place): Fifo {
    return new Fifo(join(ensureRunDir(findProjectDir(place), place.env), `copy-${randomBytes(8).toString('hex')}`));
  }

  private constructor(path: string) {
    this.path = path;
    makeFifo(path, 0o600);
    this.both = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW);
    enlargePipe(this.both, pipeBytes);
  }

  openEnd(kind: 'r' | 'w'): Socket {
    const flags = kind === 'r' ? constants.O_RDONLY : constants.O_WRONLY;
    const fd = openSync(`/proc/self/fd/${this.both}`, flags | constants.O_NONBLOCK);
    return new Socket({ fd, readable: kind === 'r', writable: kind === 'w' });
  }

  remove(): void {
    closeSync(this.both);
    unlinkSync(this.path);
  }
}

/** The first line is the reason; it begins with a path. */
function copyFailed(machine: string, [first, ...rest]: readonly string[], code: number): TsvError {
  const why = first ?? `the copy ended with exit code ${code}`;
  return new TsvError('TSV_COPY', `${machine}:${why}`, { details: rest });
}
