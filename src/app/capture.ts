import { openStream } from '../agent/client.ts';
import { encodeFrame, frame, replyReader } from '../agent/protocol.ts';
import { TsvError } from '../model/errors.ts';
import { machineAgent } from './machine.ts';
import type { Place } from './place.ts';

/** What a command printed that was run to be read, and how it ended. */
export interface Captured {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A list of processes takes a few hundred kB; what prints more than this is no list. */
const outputLimitBytes = 16 << 20;

/** Runs a program in a machine, without input. @throws TSV_NOT_RUNNING, TSV_COMMAND_NOT_FOUND, TSV_SSH */
export async function captureInMachine(
  place: Place,
  machine: string,
  argv: readonly string[],
  commandLine: string,
): Promise<Captured> {
  const agent = await machineAgent(place, machine);
  const { socket, rest } = await openStream(
    agent,
    { do: 'exec', machine, request: { argv, user: 'root' } },
    commandLine,
  );
  socket.write(encodeFrame(frame.eof));
  try {
    return await new Promise<Captured>((resolve, reject) => {
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      let bytes = 0;
      const keep = (output: Buffer[], content: Buffer) => {
        output.push(content);
        bytes += content.length;
        if (bytes > outputLimitBytes) reject(new TsvError('TSV_SSH', `${machine}: ${argv[0]} prints too much`));
      };
      const text = (output: readonly Buffer[]) => Buffer.concat(output).toString('utf8');
      const read = replyReader({
        stdout: (content) => keep(stdout, content),
        stderr: (content) => keep(stderr, content),
        exit: ({ code }) => resolve({ code, stdout: text(stdout), stderr: text(stderr) }),
        error: reject,
      });
      socket.on('close', () =>
        reject(new TsvError('TSV_SSH', `the connection to ${machine} is gone`, { hint: 'tsv status' })),
      );
      socket.on('data', read);
      read(rest);
      socket.resume();
    });
  } finally {
    socket.destroy();
  }
}
