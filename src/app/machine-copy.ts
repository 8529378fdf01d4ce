import type { Socket } from 'node:net';
import { PassThrough, type Readable } from 'node:stream';
import { openStream } from '../agent/client.ts';
import { type Call, encodeFrame, frame, replyReader } from '../agent/protocol.ts';
import { TsvError } from '../model/errors.ts';
import { machineAgent } from './machine.ts';
import type { Place } from './place.ts';

const wordsBytes = 1 << 16;

/** A copy that a project's agent makes for us: an archive comes out of it, or goes into it. */
export class MachineCopy {
  readonly output: Readable;
  /** What it says besides, when it has ended well. Rejects with TSV_COPY, or what else went wrong. */
  readonly done: Promise<readonly string[]>;
  private readonly socket: Socket;

  static async open(
    place: Place,
    call: Extract<Call, { do: 'pack' | 'unpack' }>,
    commandLine: string,
  ): Promise<MachineCopy> {
    const agent = await machineAgent(place, call.machine);
    const { socket, rest } = await openStream(agent, call, commandLine);
    return new MachineCopy(call.machine, socket, rest);
  }

  private constructor(machine: string, socket: Socket, rest: Buffer) {
    this.socket = socket;
    const output = new PassThrough({ highWaterMark: 1 << 20 });
    this.output = output;
    let said = '';
    this.done = new Promise((resolve, reject) => {
      const read = replyReader({
        stdout: (content) => {
          if (output.write(content)) return;
          socket.pause();
          output.once('drain', () => socket.resume());
        },
        stderr: (content) => {
          said = (said + content.toString('utf8')).slice(0, wordsBytes);
        },
        exit: ({ code }) => {
          const lines = said.split('\n').filter((line) => line !== '');
          if (code === 0) resolve(lines);
          else reject(copyFailed(machine, lines, code));
          output.end();
        },
        error: reject,
      });
      socket.on('data', read);
      socket.on('end', () => socket.destroy());
      socket.on('close', () => {
        reject(new TsvError('TSV_COPY', `${machine}: the connection is gone`, { hint: 'tsv status' }));
        output.end();
      });
      read(rest);
      socket.resume();
    });
    this.done.catch(() => {}); // whoever waits for it hears of it
  }

  /** Gives it more of the archive. @throws why it takes no more */
  async write(chunk: Buffer): Promise<void> {
    if (this.socket.write(encodeFrame(frame.stdin, chunk))) return;
    const drained = new Promise<void>((resolve) => this.socket.once('drain', resolve));
    await Promise.race([drained, this.done]);
  }

  /** The archive is over. */
  end(): Promise<readonly string[]> {
    this.socket.write(encodeFrame(frame.eof));
    return this.done;
  }

  /** Without effect when it is over. What it was about to write is not left. */
  abandon(): void {
    this.socket.destroy();
  }
}

/** The first line is the reason; it begins with a path. */
function copyFailed(machine: string, [first, ...rest]: readonly string[], code: number): TsvError {
  const why = first ?? `the copy ended with exit code ${code}`;
  return new TsvError('TSV_COPY', `${machine}:${why}`, { details: rest });
}
