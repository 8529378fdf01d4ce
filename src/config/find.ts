import { closeSync, constants, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { TsvError } from '../model/errors.ts';

export const tsfileNames = ['Tsfile.yaml', 'Tsfile.yml'] as const;

/** A Tsfile above this size is refused unread. */
export const tsfileLimitBytes = 1 << 20;

/**
 * Absolute path of the Tsfile in `startDir` or the nearest folder above it.
 * @throws TSV_NO_TSFILE when there is none, or the one found above belongs to a stranger: a file that another
 * user put into, say, /tmp must not decide what runs here.
 */
export function findTsfile(startDir: string): string {
  const start = resolve(startDir);
  for (let dir = start; ; dir = dirname(dir)) {
    const found = tsfileNames.map((name) => join(dir, name)).filter(exists);
    const [file, second] = found;
    if (file !== undefined && second !== undefined) {
      throw new TsvError('TSV_TSFILE_INVALID', `two Tsfiles are in ${dir}`, {
        details: [file, second],
        hint: `keep one: rm ${second}`,
      });
    }
    if (file !== undefined) {
      if (dir !== start) mustBeTrusted(file, start);
      return file;
    }
    if (dir === dirname(dir)) break;
  }
  throw new TsvError('TSV_NO_TSFILE', `no ${tsfileNames[0]} in ${start} or above it`, {
    hint: 'tsv init   # writes one into this folder',
  });
}

function exists(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // ELOOP and EACCES: something is there, and reading it gives the full reason. ENOTDIR: nothing can be.
    return (error as NodeJS.ErrnoException).code !== 'ENOTDIR';
  }
}

function mustBeTrusted(file: string, start: string): void {
  const owner = statSync(file, { throwIfNoEntry: false })?.uid;
  const here = statSync(start, { throwIfNoEntry: false })?.uid;
  if (owner === undefined || owner === 0 || owner === process.getuid?.() || owner === here) return;
  throw new TsvError('TSV_NO_TSFILE', `no Tsfile.yaml in ${start}, and the one above it belongs to another user`, {
    details: [`${file}: owned by uid ${owner}`],
    hint: `cd ${dirname(file)}   # to use it all the same`,
  });
}

/**
 * The Tsfile's text. Only a plain file of at most {@link tsfileLimitBytes} is read: no symlink (the project folder
 * may be somebody else's, and mistakes are shown with their line), no pipe, no device.
 * @throws TSV_NO_TSFILE, TSV_TSFILE_INVALID
 */
export function readTsfile(file: string): string {
  const invalid = (why: string, hint?: string, cause?: unknown) =>
    new TsvError('TSV_TSFILE_INVALID', `${file} ${why}`, { ...(hint === undefined ? {} : { hint }), cause });
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw new TsvError('TSV_NO_TSFILE', `${file} does not exist`, {
        hint: 'tsv init   # writes one into this folder',
      });
    }
    if (code === 'ELOOP')
      throw invalid('is a symbolic link; tsv reads plain files only', 'replace the link by the file');
    throw invalid(`cannot be read: ${code ?? 'unknown reason'}`, undefined, cause);
  }
  try {
    const stat = fstatSync(fd);
    if (stat.isDirectory()) throw invalid('is a folder, not a file');
    if (!stat.isFile()) throw invalid('is not a plain file');
    // One byte more than allowed: the file may grow while it is read.
    const buffer = Buffer.alloc(Math.min(stat.size, tsfileLimitBytes) + 1);
    let length = 0;
    for (let n = -1; n !== 0 && length < buffer.length; length += n)
      n = readSync(fd, buffer, length, buffer.length - length, null);
    if (stat.size > tsfileLimitBytes || length > tsfileLimitBytes) {
      throw invalid(
        `is larger than ${tsfileLimitBytes} bytes`,
        'put long scripts and files beside it, and refer to them',
      );
    }
    return decodeUtf8(buffer.subarray(0, length)) ?? fail(invalid('is not UTF-8 text'));
  } finally {
    closeSync(fd);
  }
}

/** The text of `.env` beside the Tsfile; empty when there is none. */
export function readDotEnv(file: string): string {
  try {
    if (!statSync(file).isFile()) return '';
    const bytes = readFileSync(file);
    if (bytes.length <= tsfileLimitBytes)
      return decodeUtf8(bytes) ?? fail(new TsvError('TSV_TSFILE_INVALID', `${file} is not UTF-8 text`));
  } catch (cause) {
    if (cause instanceof TsvError) throw cause;
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') return '';
    throw new TsvError('TSV_TSFILE_INVALID', `${file} cannot be read: ${code ?? 'unknown reason'}`, { cause });
  }
  throw new TsvError('TSV_TSFILE_INVALID', `${file} is larger than ${tsfileLimitBytes} bytes`);
}

function decodeUtf8(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes); // drops a byte order mark
  } catch {
    return undefined;
  }
}

function fail(error: TsvError): never {
  throw error;
}
