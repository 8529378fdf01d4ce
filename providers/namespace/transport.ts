import { closeSync, createReadStream, fstatSync } from 'node:fs';
import { Socket } from 'node:net';
import { type Duplex, PassThrough, Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { ReadStream } from 'node:tty';
import { TsvError } from '../../src/model/errors.ts';
import type {
  CopySession,
  ExecRequest,
  ExecResult,
  ExecSession,
  PackRequest,
  Through,
  Transport,
  UnpackRequest,
} from '../../src/model/provider.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import type { Stdio } from '../../src/oci/create.ts';
import { execInContainer, type StartedCommand } from '../../src/oci/exec.ts';
import type { OciConfig, OciProcess } from '../../src/oci/spec.ts';
import { type ExitStatus, signalProcess, waitExit } from '../../src/sys/children.ts';
import { O } from '../../src/sys/flags.ts';
import { pipe } from '../../src/sys/fork.ts';
import { processRef } from '../../src/sys/process.ts';
import { signalName, signalNumber } from '../../src/sys/signals.ts';
import { keepTerminal, openPeer, resizeTerminal } from '../../src/sys/terminal.ts';
import { commandProcess } from './config.ts';
import { type Copier, type CopyWork, startCopy } from './copy.ts';
import { isFolderInside, lookUpUser, openInside, readInside } from './inside.ts';
import { putFile } from './put.ts';

export interface ContainerTarget {
  readonly name: string;
  readonly process: ProcessRef;
  readonly config: OciConfig;
  cgroupFolders(): string[];
  readonly copier: Copier;
  dial(netns: string, port: number): Promise<Duplex>;
}

/** The way into a running container, without any server inside. */
export class ContainerTransport implements Transport {
  readonly closed: Promise<void>;
  private readonly target: ContainerTarget;

  constructor(target: ContainerTarget) {
    this.target = target;
    this.closed = waitExit(target.process.pid).then(() => undefined);
  }

  async exec(request: ExecRequest): Promise<ExecSession> {
    const { target } = this;
    const { pid } = target.process;
    const user = lookUpUser(readInside(pid, '/etc/passwd'), readInside(pid, '/etc/group'), request.user ?? 'root');
    const environment: Record<string, string> = {
      ...environmentOf(target.config),
      HOME: user.home,
      USER: user.name,
      LOGNAME: user.name,
      SHELL: user.shell,
      ...(request.pty === undefined ? {} : { TERM: request.pty.term }),
      ...request.env,
    };
    const command = commandProcess(target.config, {
      args: request.argv,
      env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
      cwd: request.cwd ?? (isFolderInside(pid, user.home) ? user.home : '/'),
      terminal: request.pty !== undefined,
      user,
    });
    return request.pty === undefined ? this.execPiped(command) : this.execTerminal(command, request.pty);
  }

  private start(process: OciProcess, stdio: Stdio): Promise<StartedCommand> {
    const { name, config, process: init } = this.target;
    return execInContainer({
      name,
      initPid: init.pid,
      process,
      ...(config.linux?.seccomp === undefined ? {} : { seccomp: config.linux.seccomp }),
      stdio,
      cgroupFolders: this.target.cgroupFolders(),
    });
  }

  private async execPiped(process: OciProcess): Promise<ExecSession> {
    const [[inRead, inWrite], [outRead, outWrite], [errRead, errWrite]] = [pipe(), pipe(), pipe()];
    let command: StartedCommand;
    try {
      command = await this.start(process, { stdin: inRead, stdout: outWrite, stderr: errWrite });
    } catch (error) {
      for (const fd of [inWrite, outRead, errRead]) closeSync(fd);
      throw error;
    } finally {
      for (const fd of [inRead, outWrite, errWrite]) closeSync(fd);
    }
    const stdin = new Socket({ fd: inWrite, readable: false, writable: true });
    const stdout = new Socket({ fd: outRead, readable: true, writable: false });
    const stderr = new Socket({ fd: errRead, readable: true, writable: false });
    stdin.on('error', () => {}); // EPIPE: the command does not read its input any more
    return {
      stdin,
      stdout,
      stderr,
      resize: () => {},
      signal: signaller(command.pid),
      exited: command.exited.then(async (status) => {
        stdin.destroy();
        await Promise.all([drained(stdout), drained(stderr)]);
        return execResult(status);
      }),
    };
  }

  private async execTerminal(process: OciProcess, size: { cols: number; rows: number }): Promise<ExecSession> {
    const { name, process: init } = this.target;
    const master = openInside(init.pid, '/dev/pts/ptmx', O.RDWR | O.NOCTTY);
    const device = fstatSync(master).rdev;
    if (device !== 0x502) {
      closeSync(master);
      throw new TsvError('TSV_UNSUPPORTED', `${name} has no working /dev/pts`); // something else was put in its place
    }
    const slave = openPeer(master);
    let command: StartedCommand;
    try {
      resizeTerminal(master, { width: size.cols, height: size.rows });
      command = await this.start(process, { stdin: slave, stdout: slave, stderr: slave });
    } catch (error) {
      closeSync(master);
      throw error;
    } finally {
      closeSync(slave);
    }
    const kept = keepTerminal(master);
    const terminal = new ReadStream(master) as ReadStream & Duplex;
    const stdout = new PassThrough();
    terminal.on('data', (data: Buffer) => {
      if (!stdout.write(data)) {
        terminal.pause();
        stdout.once('drain', () => terminal.resume());
      }
    });
    // EIO is how a terminal says that nobody holds its other end any more.
    terminal.on('error', () => stdout.end());
    terminal.on('close', () => stdout.end());
    let open = true;
    return {
      stdin: terminal,
      stdout,
      stderr: Readable.from([]),
      resize: (cols, rows) => {
        if (open) resizeTerminal(kept, { width: cols, height: rows });
      },
      signal: signaller(command.pid),
      exited: command.exited.then(async (status) => {
        await drained(stdout);
        open = false;
        closeSync(kept);
        terminal.destroy();
        return execResult(status);
      }),
    };
  }

  async put(content: Readable | Buffer, path: string, options: { mode?: number; owner?: string } = {}): Promise<void> {
    const { pid } = this.target.process;
    const owner = lookUpUser(readInside(pid, '/etc/passwd'), readInside(pid, '/etc/group'), options.owner ?? 'root');
    await putFile({ name: this.target.name, initPid: pid, path, owner, mode: options.mode ?? 0o644 }, content);
  }

  async get(path: string): Promise<Readable> {
    const fd = openInside(this.target.process.pid, path, O.RDONLY | O.NONBLOCK | O.NOCTTY);
    if (!fstatSync(fd).isFile()) {
      closeSync(fd);
      throw new TsvError('TSV_UNSUPPORTED', `${this.target.name}: ${path} is not a file`);
    }
    return createReadStream('', { fd });
  }

  async pack({ through, ...request }: PackRequest): Promise<CopySession> {
    return this.copy({ do: 'pack', ...request }, through);
  }

  async unpack({ through, ...request }: UnpackRequest): Promise<CopySession> {
    return this.copy({ do: 'unpack', ...request }, through);
  }

  private copy(job: CopyWork, through: Through | undefined): CopySession {
    const session = startCopy(this.target.copier, `/proc/${this.target.process.pid}/root`, job, through);
    // What is mounted there must not outlive the container for long.
    void this.closed.then(() => session.signal('TERM'));
    return session;
  }

  dial(port: number): Promise<Duplex> {
    return this.target.dial(`/proc/${this.target.process.pid}/ns/net`, port);
  }

  close(): void {
    // Nothing is held open between calls.
  }
}

const environmentOf = (config: OciConfig): Record<string, string> =>
  Object.fromEntries(
    (config.process?.env ?? []).map((entry) => {
      const at = entry.indexOf('=');
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );

const drainMs = 100;

/**
 * Resolves when the stream has ended, or when nothing more came for a moment although somebody reads: a command that left
 * a program in the background keeps its output open, and nobody should wait for that one. Time in which the reader
 * does not take what is there does not count.
 */
async function drained(stream: Readable): Promise<void> {
  if (stream.readableEnded || stream.destroyed) return;
  let quietSince = performance.now();
  const note = () => {
    quietSince = performance.now();
  };
  const read = stream.read;
  // Seen from here, not from a listener: a 'data' listener would start the flow that a slow reader has stopped.
  stream.read = function (this: Readable, size?: number) {
    note();
    return read.call(this, size);
  };
  await new Promise<void>((resolve) => {
    const look = setInterval(() => {
      // The socket reads ahead: an empty buffer means that nothing more has come. What nobody ever reads holds nobody up.
      if (stream.readableLength > 0 && stream.readableFlowing !== null) note();
      else if (performance.now() - quietSince >= drainMs) finish();
    }, drainMs / 4);
    const finish = () => {
      clearInterval(look);
      stream.read = read;
      resolve();
    };
    void finished(stream, { writable: false })
      .catch(() => {})
      .then(finish);
  });
}

function execResult(status: ExitStatus | undefined): ExecResult {
  if (status?.signal !== undefined) return { code: 128 + status.signal, signal: signalName(status.signal) };
  return { code: status?.code ?? 255 };
}

/** Signals the command's own process group: it is its session's leader. */
function signaller(pid: number): (name: string) => void {
  const ref = processRef(pid);
  return (name) => {
    const number = signalNumber(name);
    if (!signalProcess(ref, 0)) return;
    try {
      process.kill(-pid, number);
    } catch {
      signalProcess(ref, number); // no group of its own any more
    }
  };
}
