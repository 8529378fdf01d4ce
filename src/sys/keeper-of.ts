import { readFileSync } from 'node:fs';
import type { ProcessRef } from '../model/state.ts';
import { processRef, processStat } from './process.ts';

/** The keeper of a process that runs; undefined where it has none any more. */
export function keeperOf(pid: number): ProcessRef | undefined {
  const parent = processStat(pid)?.ppid;
  if (parent === undefined) return undefined;
  try {
    return readFileSync(`/proc/${parent}/cmdline`, 'utf8').startsWith('tsv-keeper\0') ? processRef(parent) : undefined;
  } catch {
    return undefined; // gone meanwhile
  }
}
