import { closeSync, constants, fstatSync, openSync, readFileSync, readSync, realpathSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TsvError } from '../model/errors.ts';
import type { OciConfig, OciProcess } from './spec.ts';
import { validateConfig, validateProcess } from './validate.ts';
import { findJsonMistake } from './validate-json.ts';
import { type Problem, quote } from './validate-schema.ts';

export interface Bundle {
  /** As it is written, save what stands for absent: `root.path` may be relative to the folder. */
  readonly config: OciConfig;
  /** Absolute, without symbolic links. */
  readonly folder: string;
  /** What of it is passed over, each beginning with its JSON path. */
  readonly warnings: readonly string[];
}

const maxBytes = 16 * 1024 * 1024;

/**
 * Reads and checks a bundle: config.json in its folder, and the root file system's folder that it names.
 * @throws TSV_BUNDLE with one line for each problem, beginning with its JSON path.
 */
export function readBundle(bundle: string): Bundle {
  const folder = realFolder(bundle);
  const where = `config.json of bundle ${folder}`;
  const document = parseDocument(readText(join(folder, 'config.json'), where), where);
  const { value, warnings } = validateConfig(document, where, (config) => rootProblems(config, folder));
  return { config: value, folder, warnings };
}

/**
 * Reads and checks a process.json for `exec`: the specification's `process` object alone.
 * @throws TSV_BUNDLE with one line for each problem, beginning with its JSON path.
 */
export function readProcess(file: string): { process: OciProcess; warnings: readonly string[] } {
  const path = resolve(file);
  const { value, warnings } = validateProcess(parseDocument(readGiven(path), path), path);
  return { process: value, warnings };
}

function realFolder(bundle: string): string {
  try {
    const folder = realpathSync(bundle);
    if (statSync(folder).isDirectory()) return folder;
  } catch (cause) {
    throw new TsvError('TSV_BUNDLE', `bundle ${resolve(bundle)} cannot be read`, { details: [reason(cause)], cause });
  }
  throw new TsvError('TSV_BUNDLE', `bundle ${resolve(bundle)} is not a folder`);
}

function rootProblems({ root }: OciConfig, folder: string): readonly Problem[] {
  const path = ['root', 'path'];
  const written = root?.path ?? '';
  try {
    return statSync(resolve(folder, written)).isDirectory()
      ? []
      : [{ path, message: `${quote(written)} is not a folder` }];
  } catch (error) {
    return [{ path, message: `${quote(written)} cannot be used: ${reason(error)}` }];
  }
}

function parseDocument(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const found = findJsonMistake(text);
    const details = [found === undefined ? reason(cause) : `${found.line}:${found.column}: ${found.message}`];
    throw new TsvError('TSV_BUNDLE', `${where} is not JSON`, { details, cause });
  }
}

/** A file, or what a shell's `<(…)` gives: the caller named it, and waits for it. */
function readGiven(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })?.isFIFO() !== true) return readText(path, path);
  const text = readFileSync(path, 'utf8');
  if (text.length > maxBytes) throw new TsvError('TSV_BUNDLE', `${path} is larger than 16 MiB`);
  return text;
}

/** All of a regular file of bounded size. Opening waits for nobody: a FIFO in its place is refused, not read. */
function readText(path: string, where: string): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw new TsvError('TSV_BUNDLE', `${where} cannot be read`, { details: [reason(cause)], cause });
  }
  try {
    const info = fstatSync(fd);
    if (!info.isFile()) throw new TsvError('TSV_BUNDLE', `${where} is not a regular file`);
    if (info.size > maxBytes) throw new TsvError('TSV_BUNDLE', `${where} is larger than 16 MiB`);
    const buffer = Buffer.alloc(info.size);
    let length = 0;
    for (;;) {
      const read = readSync(fd, buffer, length, buffer.length - length, null);
      if (read === 0) break;
      length += read;
    }
    return buffer.toString('utf8', 0, length);
  } finally {
    closeSync(fd);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  ENOTDIR: 'a part of the path is not a folder',
  EACCES: 'this user may not read it',
  ELOOP: 'its symbolic links go around in a circle',
};

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return reasons[String((error as NodeJS.ErrnoException).code)] ?? error.message;
}
