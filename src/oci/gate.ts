import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/**
 * Lets a created container go on, and hears how its command was executed. The container itself keeps both FIFOs open
 * until then; executing closes them.
 * @returns undefined when it runs, the errno with which its command was refused, `gone` when nobody waits there
 */
export async function readGate(gate: {
  readonly start: string;
  readonly result: string;
}): Promise<number | 'gone' | undefined> {
  const { O_RDONLY, O_WRONLY, O_NONBLOCK } = constants;
  const result = openSync(gate.result, O_RDONLY | O_NONBLOCK);
  let answer: Promise<Buffer>;
  try {
    const start = openSync(gate.start, O_WRONLY | O_NONBLOCK);
    answer = readAll(result);
    try {
      writeSync(start, Buffer.from([1]));
    } finally {
      closeSync(start);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error; // ENXIO: no reader
    closeSync(result);
    return 'gone';
  }
  const record = await answer;
  // {address of the step, -errno}: see fork.ts.
  return record.length < 16 ? undefined : Number(-record.readBigInt64LE(8));
}

function readAll(fd: number): Promise<Buffer> {
  const socket = new Socket({ fd, readable: true, writable: false });
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => resolve(Buffer.concat(chunks)));
  });
}
