import { type TsvError, toTsvError } from '../../model/errors.ts';

export type LogFormat = 'text' | 'json';

export interface LogEntry {
  readonly level: 'error' | 'warning';
  readonly message: string;
  readonly time: Date;
}

/** A line as runc writes it (logrus, text or JSON): whoever calls a runtime reads these. */
export function logLine(format: LogFormat, { level, message, time }: LogEntry): string {
  const stamp = `${time.toISOString().slice(0, 19)}Z`;
  if (format === 'json') return `${JSON.stringify({ level, msg: message, time: stamp })}\n`;
  const msg = /^[\w./@^+-]+$/.test(message) ? message : JSON.stringify(message);
  return `time=${JSON.stringify(stamp)} level=${level} msg=${msg}\n`;
}

/** All of an error in one line: what failed, where and why, and what to do. */
export function errorMessage(thrown: unknown): string {
  const error = toTsvError(thrown);
  const stack = error.code === 'TSV_INTERNAL' && error.cause instanceof Error ? [error.cause.stack ?? ''] : [];
  const what = oneLine(`${error.message}${knownWords(error)}`);
  const why = [...error.details, ...stack].map(oneLine).filter((part) => part !== '');
  const hint = error.hint === undefined ? '' : ` (${oneLine(error.hint)})`;
  return `${[what, ...(why.length === 0 ? [] : [why.join('; ')])].join(': ')}${hint}`;
}

const oneLine = (text: string): string => text.trim().replace(/\s*\n\s*/g, '; ');

/**
 * Docker and Podman tell by strerror(3)'s words why a container did not start: 127 when its command was not found,
 * 126 when it could not be executed.
 */
const errnoWords: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  ENOENT: 'no such file or directory',
  ENOTDIR: 'not a directory',
  ENOEXEC: 'exec format error',
};

function knownWords({ code, exitCode, message, details }: TsvError): string {
  if (code === 'TSV_COMMAND_NOT_FOUND' && exitCode === 127) {
    const command = /'([^']*)'$/.exec(message)?.[1] ?? '/';
    return command.includes('/') ? ': no such file or directory' : ': executable file not found in $PATH';
  }
  const said = [message, ...details].join(' ');
  const names = Object.keys(errnoWords).filter((name) => new RegExp(`\\b${name}\\b`).test(said));
  const words = names.map((name) => errnoWords[name] ?? '').filter((word) => !said.toLowerCase().includes(word));
  return words.length === 0 ? '' : `: ${words.join(', ')}`;
}

export interface LogOptions {
  /** The log of `--log`; without it, stderr is the log. */
  readonly toFile?: (text: string) => void;
  readonly toStderr: (text: string) => void;
  readonly format: LogFormat;
  readonly now: () => Date;
}

/**
 * Where warnings and errors go. Podman takes what a command logged as JSON for one object: when it fails, the error is
 * the only line, so warnings wait for the end of the command.
 */
export class Log {
  readonly #options: LogOptions;
  readonly #waiting: string[] = [];

  constructor(options: LogOptions) {
    this.#options = options;
  }

  warn(message: string): void {
    const line = logLine(this.#options.format, {
      level: 'warning',
      message: oneLine(message),
      time: this.#options.now(),
    });
    if (this.#options.toFile === undefined) this.#options.toStderr(line);
    else if (this.#options.format === 'json') this.#waiting.push(line);
    else this.#options.toFile(line);
  }

  /** The command has done what it was to do. */
  succeed(): void {
    for (const line of this.#waiting.splice(0)) this.#options.toFile?.(line);
  }

  /** The line for the log, and for stderr, where that is not the log, the message alone. */
  fail(error: unknown): void {
    const { toFile, toStderr, format, now } = this.#options;
    const message = errorMessage(error);
    const line = logLine(format, { level: 'error', message, time: now() });
    toFile?.(line);
    toStderr(toFile === undefined ? line : `${message}\n`);
  }
}
