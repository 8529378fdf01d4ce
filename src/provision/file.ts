import { lstat, open, readdir, readlink, stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { FileStep } from '../model/project.ts';
import type { Transport } from '../model/provider.ts';
import { runProgram } from './program.ts';
import type { StepContext } from './runner.ts';

/** Files that are on their way at once. */
const filesInFlight = 8;
/** Bytes of arguments per command: one word of a command line may have 128 KiB (execve(2), MAX_ARG_STRLEN). */
const argumentBytes = 64 * 1024;

interface Entry {
  readonly type: 'file' | 'folder' | 'link';
  readonly source: string;
  readonly destination: string;
  readonly mode: number;
  /** Where a link points to. */
  readonly to?: string;
}

/**
 * Copies a file or a whole folder into the machine. Each file is there whole or not at all; a folder is merged into
 * what is there, and folders that exist keep their mode and owner. Symbolic links below the source stay links.
 * `mode` is for files; new folders get it with x wherever there is r. Missing parents are made as root, 0755.
 */
export async function runFileStep(step: FileStep, context: StepContext): Promise<void> {
  const { transport, signal } = context;
  const entries = await collect(step);
  const owner = step.owner ?? ''; // whoever writes: root
  const root = entries[0];
  if (root === undefined) return;
  await apply(transport, makeParents, [[posix.dirname(root.destination)]], signal);

  const folders = entries.filter(({ type }) => type === 'folder');
  const each = folders.map(({ mode, destination }) => [mode.toString(8), owner, destination]);
  await apply(transport, makeFolders, each, signal);

  const files = entries.filter(({ type }) => type === 'file');
  const next = files.values();
  const work = async (): Promise<void> => {
    for (const { source, destination, mode } of next) {
      signal.throwIfAborted();
      const options = { mode, ...(step.owner === undefined ? {} : { owner: step.owner }) };
      const file = await open(source);
      try {
        await transport.put(file.createReadStream({ autoClose: false }), destination, options);
      } finally {
        await file.close();
      }
    }
  };
  // All settle before the first failure is told: nothing is still being written then.
  const workers = await Promise.allSettled(Array.from({ length: Math.min(filesInFlight, files.length) }, work));
  for (const worker of workers) if (worker.status === 'rejected') throw worker.reason;

  const links = entries.filter(({ type }) => type === 'link');
  await apply(
    transport,
    makeLinks,
    links.map(({ to = '', destination }) => [to, owner, destination]),
    signal,
  );
}

/** The source and all below it, folders before what is in them. */
async function collect(step: FileStep): Promise<Entry[]> {
  const top = await stat(step.source).catch((error: Error) => {
    throw new TsvError('TSV_PROVISION', `the source of step '${step.name}' cannot be read`, {
      details: [error.message],
      cause: error,
    });
  });
  const modeOf = (own: number, folder: boolean): number => {
    if (step.mode === undefined) return own & 0o7777;
    return folder ? step.mode | ((step.mode & 0o444) >> 2) : step.mode;
  };
  if (top.isFile()) {
    const { destination } = step;
    const into = destination.endsWith('/') ? posix.join(destination, posix.basename(step.source)) : destination;
    return [{ type: 'file', source: step.source, destination: into, mode: modeOf(top.mode, false) }];
  }
  if (!top.isDirectory()) throw special(step.source);
  const entries: Entry[] = [];
  const walk = async (source: string, destination: string, mode: number): Promise<void> => {
    entries.push({ type: 'folder', source, destination, mode: modeOf(mode, true) });
    for (const name of (await readdir(source)).sort()) {
      const from = join(source, name);
      const to = posix.join(destination, name);
      const stats = await lstat(from);
      if (stats.isDirectory()) await walk(from, to, stats.mode);
      else if (stats.isFile())
        entries.push({ type: 'file', source: from, destination: to, mode: modeOf(stats.mode, false) });
      else if (stats.isSymbolicLink()) {
        entries.push({ type: 'link', source: from, destination: to, mode: 0, to: await readlink(from) });
      } else throw special(from);
    }
  };
  await walk(step.source, posix.join(step.destination, '.'), top.mode);
  return entries;
}

const special = (path: string): TsvError =>
  new TsvError('TSV_PROVISION', `${path} is neither a file, a folder nor a symbolic link`);

const makeParents = 'umask 022; mkdir -p -- "$1"';
const makeFolders = `umask 077
while [ $# -gt 0 ]; do
  [ -d "$3" ] || { mkdir -- "$3" && { [ -z "$2" ] || chown -- "$2" "$3"; } && chmod -- "$1" "$3"; } || exit 1
  shift 3
done`;
const makeLinks = `while [ $# -gt 0 ]; do
  t=$3.tsv-$$
  ln -s -- "$1" "$t" && { [ -z "$2" ] || chown -h -- "$2" "$t"; } && mv -fT -- "$t" "$3" || { rm -f -- "$t"; exit 1; }
  shift 3
done`;

/** Runs a shell script as root with all the arguments, in as few runs as they fit into. */
async function apply(
  transport: Transport,
  script: string,
  items: readonly (readonly string[])[],
  signal: AbortSignal,
): Promise<void> {
  let batch: string[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const said: string[] = [];
    const argv = ['/bin/sh', '-c', script, 'sh', ...batch];
    const ended = await runProgram(transport, { argv, cwd: '/' }, (_stream, line) => said.push(line), signal);
    batch = [];
    bytes = 0;
    if (ended.how === 'exited' && ended.result.code === 0) return;
    if (ended.how === 'exited') throw new TsvError('TSV_SSH', said.join('; ') || `exit code ${ended.result.code}`);
    throw new TsvError('TSV_SSH', 'the connection to the machine was lost', {
      cause: 'cause' in ended ? ended.cause : undefined,
    });
  };
  for (const item of items) {
    const size = item.reduce((sum, word) => sum + Buffer.byteLength(word) + 3, 0);
    if (bytes + size > argumentBytes) await flush();
    batch.push(...item);
    bytes += size;
  }
  await flush();
}
