import { closeSync, createReadStream, existsSync, openSync, readSync, statSync, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { resolveTargets } from '../plan/targets.ts';
import { projectPaths } from '../state/paths.ts';
import { readState } from '../state/store.ts';
import { findProjectDir, type Place } from './place.ts';

export interface LogFile {
  readonly machine: string;
  readonly file: string;
  /** Printed before every line when several machines are shown. */
  readonly prefix: string;
}

/** Where the chosen machines' output is kept. */
export async function logFiles(place: Place, names: readonly string[]): Promise<LogFile[]> {
  const projectDir = findProjectDir(place);
  const specs = Object.values(readState(projectDir)?.machines ?? {}).map(({ spec }) => spec);
  if (specs.length === 0) throw new TsvError('TSV_NOT_RUNNING', 'no machine exists yet', { hint: 'tsv up' });
  const chosen = names.length === 0 ? specs.map(({ name }) => name) : resolveTargets(names, specs);
  const width = Math.max(...chosen.map((name) => name.length));
  return chosen.map((machine) => ({
    machine,
    file: join(projectPaths(projectDir).machineDir(machine), 'console.log'),
    prefix: chosen.length === 1 ? '' : `${machine.padEnd(width)} | `,
  }));
}

type Write = (text: string) => boolean;

/** Prints what is there now; returns how far each file was read, for {@link followLogs}. */
export async function printLogs(
  files: readonly LogFile[],
  options: { tail?: number; write: Write },
): Promise<ReadonlyMap<string, number>> {
  const ends = new Map<string, number>();
  for (const { file, prefix } of files) {
    const parts = [`${file}.1`, file].flatMap((part) => {
      const size = statSync(part, { throwIfNoEntry: false })?.size ?? 0;
      if (part === file) ends.set(file, size);
      return size === 0 ? [] : [createReadStream(part, { encoding: 'utf8', end: size - 1 })];
    });
    const print = linePrinter(prefix, options.write);
    if (options.tail === undefined) for (const part of parts) for await (const chunk of part) print(chunk as string);
    else for (const line of await lastLines(parts, options.tail)) print(`${line}\n`);
    print.end();
  }
  return ends;
}

async function lastLines(parts: readonly AsyncIterable<string>[], count: number): Promise<string[]> {
  let lines: string[] = [];
  let pending = '';
  for (const part of parts) {
    for await (const chunk of part) {
      const pieces = (pending + chunk).split('\n');
      pending = pieces.pop() ?? '';
      lines = [...lines, ...pieces].slice(-count);
    }
  }
  return (pending === '' ? lines : [...lines, pending]).slice(-count);
}

function linePrinter(prefix: string, write: Write): ((text: string) => void) & { end(): void } {
  let pending = '';
  const print = (text: string) => {
    if (prefix === '') {
      write(text);
      return;
    }
    const lines = (pending + text).split('\n');
    pending = lines.pop() ?? '';
    for (const line of lines) write(`${prefix}${line}\n`);
  };
  return Object.assign(print, {
    end: () => {
      if (pending !== '') write(`${prefix}${pending}\n`);
      pending = '';
    },
  });
}

/** Goes on as the files grow, until the reader goes away or the user interrupts. A rotated file is followed by name. */
export async function followLogs(
  files: readonly LogFile[],
  ends: ReadonlyMap<string, number>,
  write: Write,
  reader: NodeJS.WriteStream,
): Promise<void> {
  const watchers = files.map(({ file, prefix }) => {
    const print = linePrinter(prefix, write);
    let fd = existsSync(file) ? openSync(file, 'r') : undefined;
    let position = ends.get(file) ?? 0;
    const buffer = Buffer.alloc(65536);
    const drain = () => {
      while (fd !== undefined) {
        const count = readSync(fd, buffer, 0, buffer.length, position);
        if (count === 0) return;
        position += count;
        print(buffer.subarray(0, count).toString('utf8'));
      }
    };
    const watcher = watch(dirname(file), (type, name) => {
      if (name !== basename(file)) return;
      drain();
      if (type === 'rename' && existsSync(file)) {
        if (fd !== undefined) closeSync(fd);
        fd = openSync(file, 'r');
        position = 0;
        drain();
      }
    });
    drain(); // what came between the printing and the watch
    return watcher;
  });
  await new Promise<void>((resolve) => {
    reader.once('error', () => resolve()); // EPIPE: `| head` has enough
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  for (const watcher of watchers) watcher.close();
}
