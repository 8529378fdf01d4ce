import { closeSync, openSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { Notes } from '../copy/failures.ts';
import { pack } from '../copy/pack.ts';
import { copyPath, toBytes } from '../copy/path.ts';
import { sameIds } from '../copy/types.ts';
import { Unpacker } from '../copy/unpack.ts';
import { TsvError } from '../model/errors.ts';
import type { CopySource } from '../model/provider.ts';
import { O } from '../sys/flags.ts';
import { TarReader } from '../tar/reader.ts';
import { MachineCopy } from './machine-copy.ts';
import type { Place } from './place.ts';

/** One side of a copy. `-` is an archive on standard input or output. */
export type CopyEnd = '-' | { readonly machine: string; readonly path: string } | { readonly file: string };

/** As docker cp splits it: a path with a colon in it begins with `/` or `.`. */
export function copyEnd(text: string): CopyEnd {
  if (text === '-') return '-';
  const colon = text.indexOf(':');
  if (colon < 1 || /^[./]/.test(text)) return { file: text };
  return { machine: text.slice(0, colon), path: text.slice(colon + 1) };
}

export interface CopyOptions {
  readonly place: Place;
  readonly from: CopyEnd;
  readonly to: CopyEnd;
  /** Keep owners. */
  readonly archive: boolean;
  readonly follow: boolean;
  readonly stdin: () => Readable;
  readonly stdout: () => Writable;
  readonly commandLine: string;
  readonly signal: AbortSignal;
}

export interface CopyResult {
  /** Of the archive. */
  readonly bytes: number;
  /** What was left out, and why. */
  readonly notes: readonly string[];
}

interface Source {
  readonly chunks: AsyncIterable<Buffer> | Iterable<Buffer>;
  /** What its archive is of; absent: anything. */
  readonly as?: string;
  /** Rejects as soon as it has failed, whoever waits for what meanwhile. */
  readonly done?: Promise<unknown>;
  end(): Promise<readonly string[]>;
  abandon(): void;
}

interface Sink {
  readonly done?: Promise<unknown>;
  write(chunk: Buffer): Promise<void> | void;
  end(): Promise<readonly string[]>;
  abandon(): void;
}

/** `tsv cp`. @throws TSV_COPY, TSV_USAGE, TSV_NOT_RUNNING, TSV_UNKNOWN_MACHINE, TSV_CANCELLED */
export async function copy(options: CopyOptions): Promise<CopyResult> {
  const { from, to, signal } = options;
  const inMachine = [from, to].flatMap((end) => (end !== '-' && 'machine' in end ? [end] : []));
  if (inMachine.length === 0) {
    throw new TsvError('TSV_USAGE', 'neither the source nor the destination is in a machine', {
      hint: 'tsv cp web-1:/etc/hosts .   # NAME:PATH is in a machine; a file with a colon in its name is ./FILE',
    });
  }
  for (const end of inMachine) {
    if (end.path === '')
      throw new TsvError('TSV_USAGE', `${end.machine}: is no path`, { hint: `${end.machine}:/ is all of it` });
  }
  const source = await openSource(options);
  let sink: Sink | undefined;
  let bytes = 0;
  // Whoever waits for one of them then hears of it.
  const leave = (): void => {
    source.abandon();
    sink?.abandon();
  };
  signal.addEventListener('abort', leave, { once: true });
  let failure: unknown;
  const watch = ({ done }: Source | Sink): void => {
    done?.catch((error: unknown) => {
      failure ??= error;
      leave();
    });
  };
  try {
    watch(source);
    const first: Buffer[] = [];
    const look = source.as === undefined || to === '-' ? undefined : new FirstEntry(source.as);
    for await (const chunk of source.chunks) {
      signal.throwIfAborted();
      bytes += chunk.length;
      if (sink === undefined) {
        first.push(chunk);
        if (look?.isLooking(chunk)) continue;
        sink = await openSink(options, look?.found);
        watch(sink);
        for (const early of first.splice(0)) await sink.write(early);
      } else await sink.write(chunk);
    }
    if (failure !== undefined) throw failure;
    // First, so that a source that failed is not taken for one that is over.
    const notes = await source.end();
    signal.throwIfAborted();
    sink ??= await openSink(options, undefined);
    return { bytes, notes: [...notes, ...(await sink.end())] };
  } catch (error) {
    throw signal.aborted ? new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 }) : (failure ?? error);
  } finally {
    signal.removeEventListener('abort', leave);
    leave();
  }
}

/** Reads an archive up to its first entry, which says what it is of. */
class FirstEntry {
  found: CopySource | undefined;
  private readonly reader: TarReader;

  constructor(as: string) {
    this.reader = new TarReader({
      entry: ({ path, type }) => {
        const [name = ''] = path.replace(/^(?:\.\/)+(?=.)/, '').split('/');
        this.found ??= { name: name === '' ? '.' : name, folder: type === 'directory', as: as === '.' ? name : as };
      },
      data: () => {},
      entryEnd: () => {},
    });
  }

  isLooking(chunk: Buffer): boolean {
    try {
      this.reader.push(chunk);
    } catch (cause) {
      throw new TsvError('TSV_COPY', 'what the machine sends is not a valid tar archive', { cause });
    }
    return this.found === undefined;
  }
}

async function openSource(options: CopyOptions): Promise<Source> {
  const { place, from, follow, commandLine } = options;
  if (from === '-') {
    const stdin = options.stdin();
    return { chunks: stdin, end: async () => [], abandon: () => void stdin.destroy() };
  }
  if ('machine' in from) {
    const path = toBytes(from.path);
    const request = { path, follow };
    const machine = await MachineCopy.open(place, { do: 'pack', machine: from.machine, request }, commandLine);
    const { name, isContent } = copyPath(path);
    return {
      chunks: machine.output,
      as: isContent ? '.' : name,
      done: machine.done,
      end: () => machine.done,
      abandon: () => machine.abandon(),
    };
  }
  const root = openSync('/', O.PATH | O.DIRECTORY);
  const notes = new Notes();
  const path = copyPath(toBytes(from.file), toBytes(place.cwd));
  const chunks = pack({ root, path, follow, ids: sameIds, notes });
  return {
    chunks,
    as: path.isContent ? '.' : path.name,
    end: async () => notes.all,
    abandon: once(() => {
      chunks.return();
      closeSync(root);
    }),
  };
}

function once(work: () => void): () => void {
  let done = false;
  return () => {
    if (!done) work();
    done = true;
  };
}

async function openSink(options: CopyOptions, source: CopySource | undefined): Promise<Sink> {
  const { place, to, archive, commandLine } = options;
  if (to === '-') return streamSink(options.stdout());
  if ('machine' in to) {
    const request = { path: toBytes(to.path), owners: archive, ...(source === undefined ? {} : { source }) };
    const machine = await MachineCopy.open(place, { do: 'unpack', machine: to.machine, request }, commandLine);
    return machine;
  }
  const root = openSync('/', O.PATH | O.DIRECTORY);
  const notes = new Notes();
  try {
    const unpacker = new Unpacker({
      root,
      path: copyPath(toBytes(to.file), toBytes(place.cwd)),
      ...(source === undefined ? {} : { source }),
      owners: archive ? 'keep' : 'own',
      ids: sameIds,
      notes,
    });
    return {
      write: (chunk) => unpacker.push(chunk),
      end: async () => {
        unpacker.finish();
        return notes.all;
      },
      abandon: once(() => unpacker.close()),
    };
  } finally {
    closeSync(root);
  }
}

function streamSink(stream: Writable): Sink {
  let failure: Error | undefined;
  stream.on('error', (error: Error) => {
    failure = error;
  });
  const throwFailure = (): void => {
    if (failure !== undefined)
      throw new TsvError('TSV_COPY', `standard output: ${failure.message}`, { cause: failure });
  };
  return {
    write: async (chunk) => {
      throwFailure();
      if (stream.write(chunk)) return;
      await new Promise<void>((resolve) => {
        stream.once('drain', resolve);
        stream.once('error', () => resolve());
      });
      throwFailure();
    },
    end: async () => [],
    abandon: () => {},
  };
}
