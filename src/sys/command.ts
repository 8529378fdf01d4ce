import { type ChildProcess, spawn } from 'node:child_process';
import { TsvError } from '../model/errors.ts';

export interface CommandResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly signal?: AbortSignal;
  /** A descriptor that the program has open, too, as its number 3: a lock that is to outlive this process with it. */
  readonly holds?: number;
  /** Called with each piece of stderr as it comes. */
  readonly onStderr?: (text: string) => void;
}

/** Keeps this much of each stream's end. */
const outputLimit = 1 << 20;

/** Runs a program to its end and collects its output. Rejects only when it cannot be started (ENOENT …). */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [file, ...args] = argv;
  if (file === undefined) throw new TypeError('run: empty argv');
  return new Promise((resolve, reject) => {
    const child: ChildProcess = spawn(file, args, {
      stdio: ['pipe', 'pipe', 'pipe', ...(options.holds === undefined ? [] : [options.holds])],
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-outputLimit);
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-outputLimit);
      options.onStderr?.(text);
    });
    child.stdin?.on('error', () => {}); // EPIPE: the program did not want its input; its exit code tells the rest
    child.stdin?.end(options.input ?? '');
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** Like {@link run}, but throws `code` with the program's own last words when it does not end with 0. */
export async function mustRun(
  argv: readonly string[],
  failure: { code: TsvError['code']; message: string; hint?: string },
  options: CommandOptions = {},
): Promise<CommandResult> {
  let result: CommandResult;
  try {
    result = await run(argv, options);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new TsvError(
      missing ? 'TSV_HOST_MISSING' : failure.code,
      missing ? `${failure.message}: the program '${argv[0]}' is not installed` : failure.message,
      {
        cause,
        hint: missing ? 'tsv doctor names the package' : (failure.hint ?? ''),
      },
    );
  }
  if (result.code !== 0) {
    const last = (result.stderr || result.stdout).trimEnd().split('\n').slice(-8);
    throw new TsvError(failure.code, failure.message, {
      details: [`${argv.join(' ')}: ${result.signal ?? `exit code ${result.code}`}`, ...last],
      ...(failure.hint === undefined ? {} : { hint: failure.hint }),
    });
  }
  return result;
}
