import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Ending } from '../model/state.ts';
import { signalName } from './signals.ts';

/** What a keeper (keeper.s) writes into a machine's folder. It calls a log that is full, and its times, NAME.1. */
export const keptFiles = { log: 'console.log', times: 'console.times', exit: 'exit' } as const;

/**
 * How the process of this folder's keeper ended: from the status of wait4(2), 4 bytes, and when they were written.
 * @returns undefined while it runs, and where its keeper did not live to see the end
 */
export function readEnding(folder: string): Ending | undefined {
  const file = join(folder, keptFiles.exit);
  let bytes: Buffer;
  let at: string;
  try {
    bytes = readFileSync(file);
    at = statSync(file).mtime.toISOString();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  if (bytes.length !== 4) return undefined;
  const status = bytes.readUInt32LE(0);
  const signal = status & 0x7f;
  return signal === 0
    ? { at, why: 'exited', code: (status >> 8) & 0xff }
    : { at, why: 'killed', signal: signalName(signal) };
}

/** Nobody saw how it ended. */
export const lostEnding = (): Ending => ({ at: new Date().toISOString(), why: 'lost' });
