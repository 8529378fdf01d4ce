import { closeSync, openSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { isatty } from 'node:tty';
import packageJson from '../../../package.json' with { type: 'json' };
import { TsvError, toTsvError } from '../../model/errors.ts';
import { readCommandLine } from '../oci/command-line.ts';
import type { GlobalOptions } from '../oci/commands.ts';
import { Log, type LogFormat } from '../oci/log.ts';

/**
 * `tsv oci`: a container runtime with runc's command line. Its streams are the container's too, so it writes with
 * write(2): process.stdin, process.stdout and process.stderr would make them non-blocking for everybody who has them.
 * @returns the exit code
 */
export async function runOci(argv: readonly string[], cwd: string): Promise<number> {
  let log = new Log({ format: 'text', toStderr, now });
  let closeLog = () => {};
  let readable = isatty(2);
  try {
    const { global, read } = readCommandLine(argv);
    const opened = openLog(global, cwd);
    log = opened.log;
    closeLog = opened.close;
    readable &&= (global.log ?? '') === '' && global['log-format'] !== 'json';
    const wanted = read();
    if ('show' in wanted) {
      if (wanted.show === 'version') toStdout((await import('../oci/features.ts')).versionText(packageJson.version));
      else toStdout((await import('../oci/help.ts')).helpText(wanted.command));
      return 0;
    }
    const { runCall } = await import('../oci/run.ts');
    const warn = (message: string) => log.warn(message);
    const code = await runCall(wanted, global, { cwd, version: packageJson.version, warn, print: toStdout });
    log.succeed();
    return code;
  } catch (error) {
    if (readable) toStderr(await forPeople(error));
    else log.fail(error);
    return toTsvError(error).exitCode;
  } finally {
    closeLog();
  }
}

const now = (): Date => new Date();
const toStdout = (text: string): void => write(1, text);
const toStderr = (text: string): void => write(2, text);

function openLog(global: GlobalOptions, cwd: string): { log: Log; close: () => void } {
  const format = readLogFormat(global['log-format']);
  if ((global.log ?? '') === '') return { log: new Log({ format, toStderr, now }), close: () => {} };
  const path = resolve(cwd, global.log ?? '');
  let fd: number;
  try {
    fd = openSync(path, 'as', 0o644);
  } catch (cause) {
    throw new TsvError('TSV_USAGE', `--log: ${path}: ${(cause as NodeJS.ErrnoException).code}`, { cause });
  }
  const log = new Log({ format, toFile: (text) => write(fd, text), toStderr, now });
  return { log, close: () => closeSync(fd) };
}

function readLogFormat(text = 'text'): LogFormat {
  if (text === 'text' || text === 'json') return text;
  throw new TsvError('TSV_USAGE', `invalid log-format: ${JSON.stringify(text)}`, { hint: 'text or json' });
}

/** On a terminal nobody parses a log line. */
async function forPeople(error: unknown): Promise<string> {
  const [{ renderError }, { readTerminal }] = await Promise.all([
    import('../render/error.ts'),
    import('../render/terminal.ts'),
  ]);
  return renderError(error, readTerminal({ isTTY: true }, process.env));
}

/** All of it, also where somebody else has made the descriptor non-blocking; for a reader who has gone, nothing more. */
function write(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE' || code === 'EBADF') return;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}
