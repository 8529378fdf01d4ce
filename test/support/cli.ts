import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { readProcess } from './host-processes.ts';
import { until } from './until.ts';

/** Root of the checkout. */
export const packageDir = join(import.meta.dirname, '..', '..');
export const tsvProgram = join(packageDir, 'dist', 'tsv.js');

export interface Result {
  /** As a shell gives it: 128 + n for signal n. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

/** A program that runs. */
export interface Running {
  readonly pid: number;
  readonly result: Promise<Result>;
  /** What it has printed so far. */
  readonly output: () => { readonly stdout: string; readonly stderr: string };
  write(text: string): void;
  endInput(): void;
  signal(name: NodeJS.Signals): void;
  /** Resolves with the match when its output, of both kinds, has one. Fails when it ends without or takes too long. */
  prints(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
}

/** The environment of an ordinary shell in `dir`, without what the test runner adds. */
export function userEnvironment(dir: string, more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(VITEST|NODE_|npm_|TEST$|DEV$|PROD$|MODE$|SSR$|BASE_URL$|FORCE_COLOR$|NO_COLOR$)/.test(name),
  );
  return { ...Object.fromEntries(inherited), PWD: dir, TERM: 'xterm', ...more };
}

/** Starts a program in a folder. It is ended when it takes longer than `timeoutMs` (2 minutes). */
export function start(
  dir: string,
  argv: readonly string[],
  { input, env = {}, timeoutMs = 120_000 }: RunOptions = {},
): Running {
  const [file = '', ...args] = argv;
  const child = spawn(file, args, { cwd: dir, env: userEnvironment(dir, env), stdio: ['pipe', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  const collected = () => ({ stdout, stderr });
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.on('error', () => {}); // EPIPE: it ended first
  if (input !== undefined) child.stdin.end(input);
  const line = argv.join(' ');
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  const result = new Promise<Result>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      if (timedOut) reject(new Error(`${line}: took longer than ${timeoutMs} ms\n${stdout}${stderr}`));
      else resolve({ code: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), stdout, stderr });
    });
  });
  result.catch(() => {}); // whoever waits sees it
  return {
    pid: child.pid ?? 0,
    result,
    output: collected,
    write: (text) => void child.stdin.write(text),
    endInput: () => child.stdin.end(),
    signal: (name) => void child.kill(name),
    prints: (pattern, limitMs = 60_000) => printed(child, collected, pattern, limitMs, line),
  };
}

function printed(
  child: ChildProcess,
  output: Running['output'],
  pattern: RegExp,
  timeoutMs: number,
  line: string,
): Promise<RegExpExecArray> {
  const streams = [child.stdout, child.stderr];
  return new Promise((resolve, reject) => {
    const leave = () => {
      clearTimeout(timer);
      for (const stream of streams) stream?.off('data', look);
      child.off('close', onClose);
    };
    const fail = (why: string) => {
      leave();
      const { stdout, stderr } = output();
      reject(new Error(`${line}: ${why} before it printed ${pattern}\n${stdout}${stderr}`));
    };
    const look = () => {
      const { stdout, stderr } = output();
      const match = pattern.exec(stdout) ?? pattern.exec(stderr);
      if (match === null) return;
      leave();
      resolve(match);
    };
    const onClose = () => fail('ended');
    const timer = setTimeout(() => fail(`${timeoutMs} ms went by`), timeoutMs);
    for (const stream of streams) stream?.on('data', look);
    child.on('close', onClose);
    look();
  });
}

export const startTsv = (dir: string, args: readonly string[], options: RunOptions = {}): Running =>
  start(dir, [process.execPath, tsvProgram, ...args], options);

/** Runs the built command in a folder like a user, to its end. */
export function tsv(dir: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  return startTsv(dir, args, { input: '', ...options }).result;
}

/** The same on a terminal of its own (script(1)): what is written is typed, `\x03` is Ctrl-C. */
export function startTsvOnTerminal(dir: string, args: readonly string[], options: RunOptions = {}): Running {
  const line = [process.execPath, tsvProgram, ...args].map(quote).join(' ');
  return start(dir, ['script', '-qec', line, '/dev/null'], options);
}

export const quote = (word: string): string =>
  /^[\w./:=@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** Ends a process at once, whatever it is, and waits until it is gone. */
export async function killNow(pid: number, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
  const before = readProcess(pid);
  process.kill(pid, signal);
  await until(`process ${pid} is gone`, () => readProcess(pid)?.startTime !== before?.startTime);
}

export function assertBuilt(): void {
  if (!existsSync(tsvProgram)) throw new Error(`${tsvProgram} is not there: npm run build`);
}

/** The body of an answer over HTTP, from the host's own loopback. */
export async function get(port: number | string): Promise<string> {
  return (await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(20_000) })).text();
}
