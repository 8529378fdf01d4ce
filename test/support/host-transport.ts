import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { chmod, open, rename, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { constants, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { TsvError } from '../../src/model/errors.ts';
import type { ExecRequest, ExecResult, ExecSession, Transport } from '../../src/model/provider.ts';

/** Output that a background process still holds open is given up after this long without a byte. */
const quietMs = 300;

export interface HostTransport extends Transport {
  /** Every program that was started, as it was asked for. */
  readonly requests: ExecRequest[];
  /** Breaks the way in, as a machine does that dies: programs are killed, `closed` resolves, `exited` rejects. */
  sever(): void;
}

/**
 * A Transport to the host itself: programs run as this user with `home` as their HOME, paths are the host's own.
 * `root` and this user are the only users. A terminal comes from script(1); stty(1) sizes it.
 */
export function hostTransport(home: string): HostTransport {
  const requests: ExecRequest[] = [];
  const running = new Map<ChildProcess, (error: TsvError) => void>();
  let severed = false;
  let resolveClosed = () => {};
  const closed = new Promise<void>((resolve) => {
    resolveClosed = resolve;
  });

  const exec = async (request: ExecRequest): Promise<ExecSession> => {
    if (severed) throw new TsvError('TSV_NOT_RUNNING', 'the machine is gone');
    requests.push(request);
    const { user = 'root' } = request;
    if (user !== 'root' && user !== userInfo().username) {
      throw new TsvError('TSV_SSH', `no user ${user} in the machine`);
    }
    const argv = request.pty === undefined ? request.argv : onTerminal(request.argv, request.pty);
    const child = spawn(argv[0] ?? '', argv.slice(1), {
      cwd: request.cwd ?? home,
      env: { PATH: process.env.PATH, HOME: home, TERM: request.pty?.term, ...request.env },
      detached: true, // its own process group, which signal() ends as a whole
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) => {
        reject(new TsvError('TSV_COMMAND_NOT_FOUND', `${request.argv[0]}: ${error.message}`, { cause: error }));
      });
    });
    const exited = new Promise<ExecResult>((resolve, reject) => {
      running.set(child, reject);
      child.once('exit', (code, signal) => {
        const result =
          signal === null ? { code: code ?? 255 } : { code: 128 + constants.signals[signal], signal: signal.slice(3) };
        void drained(child).then(() => {
          running.delete(child);
          resolve(result);
        });
      });
    });
    exited.catch(() => {});
    child.stdin.on('error', () => {});
    return {
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: request.pty === undefined ? child.stderr : Readable.from([]),
      exited,
      resize: (cols, rows) => resizeTerminal(child.pid, cols, rows),
      signal: (name) => killGroup(child, `SIG${name}` as NodeJS.Signals),
    };
  };

  return {
    requests,
    exec,
    async put(content, path, options = {}) {
      const temporary = join(dirname(path), `.tsv-${randomBytes(6).toString('hex')}`);
      try {
        await pipeline(
          Buffer.isBuffer(content) ? Readable.from([content]) : content,
          createWriteStream(temporary, { flags: 'wx', mode: 0o600 }),
        );
        await chmod(temporary, options.mode ?? 0o644);
        if (options.owner !== undefined) {
          const { code } = await (await exec({ argv: ['chown', options.owner, temporary] })).exited;
          if (code !== 0) throw new TsvError('TSV_SSH', `cannot write ${path}: no owner ${options.owner}`);
        }
        await rename(temporary, path);
      } catch (error) {
        await rm(temporary, { force: true });
        throw error instanceof TsvError
          ? error
          : new TsvError('TSV_SSH', `cannot write ${path} in the machine: ${(error as Error).message}`);
      }
    },
    async get(path) {
      const file = await open(path).catch((error: Error) => {
        throw new TsvError('TSV_SSH', `cannot read ${path} in the machine: ${error.message}`);
      });
      return createReadStream('', { fd: file });
    },
    pack: () => Promise.reject(new Error('only machines are copied from')),
    unpack: () => Promise.reject(new Error('only machines are copied to')),
    dial: (port) =>
      new Promise((resolve, reject) => {
        const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true }, () => resolve(socket));
        socket.once('error', reject);
      }),
    closed,
    close: () => resolveClosed(),
    sever() {
      severed = true;
      for (const [child, reject] of running) {
        reject(new TsvError('TSV_SSH', 'the connection to the machine was lost'));
        killGroup(child, 'SIGKILL');
      }
      resolveClosed();
    },
  };
}

/** Resolves when both outputs ended, or when a process that lives on keeps them open without a word. */
async function drained(child: ChildProcess): Promise<void> {
  const outputs = [child.stdout, child.stderr].filter((stream) => stream !== null);
  const ends = Promise.all(
    outputs.map((stream) => (stream.readableEnded ? undefined : new Promise((resolve) => stream.once('end', resolve)))),
  );
  for (let before = -1; outputs.some((stream) => !stream.readableEnded); ) {
    const read = outputs.reduce((sum, stream) => sum + ((stream as { bytesRead?: number }).bytesRead ?? 0), 0);
    const behind = outputs.some((stream) => stream.readableLength > 0);
    if (read === before && !behind) {
      for (const stream of outputs) stream.push(null);
      return;
    }
    before = read;
    await Promise.race([ends, new Promise((resolve) => setTimeout(resolve, quietMs))]);
  }
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // ESRCH: already gone
  }
}

const quote = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

function onTerminal(argv: readonly string[], { cols, rows }: { cols: number; rows: number }): string[] {
  const command = `stty rows ${rows} cols ${cols}; exec ${argv.map(quote).join(' ')}`;
  return ['script', '--quiet', '--return', '--command', command, '/dev/null'];
}

/** stty(1) on the terminal of script's child tells its foreground process with SIGWINCH. */
function resizeTerminal(pid: number | undefined, cols: number, rows: number): void {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) !== pid) continue;
      spawn('stty', ['-F', readlinkSync(`/proc/${entry}/fd/0`), 'rows', String(rows), 'cols', String(cols)]);
    } catch {
      // gone meanwhile
    }
  }
}
