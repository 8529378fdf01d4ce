import { openStream } from '../agent/client.ts';
import { encodeFrame, frame, frameReader } from '../agent/protocol.ts';
import { type ErrorData, TsvError } from '../model/errors.ts';
import type { ExecResult } from '../model/provider.ts';
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
      const outputs = { [frame.stdout]: [] as Buffer[], [frame.stderr]: [] as Buffer[] };
      let bytes = 0;
      const read = frameReader((type, content) => {
        if (type === frame.stdout || type === frame.stderr) {
          outputs[type].push(Buffer.from(content));
          bytes += content.length;
          if (bytes > outputLimitBytes) reject(new TsvError('TSV_SSH', `${machine}: ${argv[0]} prints too much`));
        } else if (type === frame.exit) {
          const { code } = JSON.parse(content.toString('utf8')) as ExecResult;
          const text = (kind: typeof frame.stdout | typeof frame.stderr) =>
            Buffer.concat(outputs[kind]).toString('utf8');
          resolve({ code, stdout: text(frame.stdout), stderr: text(frame.stderr) });
        } else if (type === frame.error) {
          reject(TsvError.fromJSON(JSON.parse(content.toString('utf8')) as ErrorData));
        }
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
