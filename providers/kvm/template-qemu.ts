import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants, setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { TsvError } from '../../src/model/errors.ts';
import type { Jail } from '../../src/model/launch.ts';
import { startBound } from '../../src/sys/bound-child.ts';
import { jailed } from './jail.ts';

/** A guest that has booted is still busy for a while; one that never rests is taken as it is. */
const restMs = 30_000;
const restEveryMs = 250;

export interface QemuOptions {
  readonly signal: AbortSignal;
  /** It is for later: it does not get in the way of what is wanted now. */
  readonly background: boolean;
}

export interface TemplateQemuRequest {
  /** With its channels as {@link templateFds} has them. */
  readonly argv: readonly string[];
  readonly cwd: string;
  /** It gets a user of its own, and these taps opened. */
  readonly own?: { readonly jail: Jail; readonly taps: readonly string[] };
}

/** A QEMU that ends with this process, however that ends. */
export interface TemplateQemu {
  readonly pid: number;
  /** Where it is one of its own. */
  readonly uid: number | undefined;
  readonly qmp: Socket;
  readonly guest: Socket;
  readonly nics: number;
  /** The end of what it and its console printed. */
  said(): string;
  /** What `work` gives, or how QEMU ended, or the signal's reason. */
  unlessItEnds<T>(work: Promise<T>): Promise<T>;
  end(): Promise<void>;
}

/** A child that ends with this process: standard output and error, and its three channels. */
interface Child {
  readonly pid: number;
  readonly output: readonly (NodeJS.ReadableStream | null)[];
  readonly channels: readonly Socket[];
  /** Resolves with how it ended. */
  readonly ended: Promise<string>;
  kill(): void;
}

/** Whoever was killed before this had the signal set sends none. `$0`: its process number. */
const unlessOrphaned = '[ "$PPID" = "$0" ] && exec "$@"';

/** As the user that this process is, in a network namespace of its own. @throws TSV_HOST_MISSING */
function startAsWeAre({ argv, cwd }: TemplateQemuRequest): Child {
  // Its network cards end in a namespace of its own, which goes with it; so does it with us.
  const own = process.geteuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
  const bound = ['setpriv', '--pdeathsig', 'KILL', '--', 'sh', '-c', unlessOrphaned, String(process.pid)];
  const child: ChildProcess = spawn('unshare', [...own, '--', ...bound, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    cwd,
  });
  child.on('error', () => {}); // no such program: it has no pid then
  if (child.pid === undefined)
    throw new TsvError('TSV_HOST_MISSING', 'the program unshare cannot be started', {
      hint: 'sudo apt-get install util-linux',
    });
  return {
    pid: child.pid,
    output: [child.stdout, child.stderr],
    channels: child.stdio.slice(3) as unknown as Socket[],
    ended: once(child, 'close').then(([code, name]) => name ?? `exit code ${code}`),
    kill: () => void child.kill('SIGKILL'),
  };
}

/** As a user of its own. @throws TSV_HOST_MISSING, TSV_SYSCALL */
async function startAsItself(
  { argv, cwd }: TemplateQemuRequest,
  { jail, taps }: NonNullable<TemplateQemuRequest['own']>,
): Promise<Child> {
  const { pid, streams, exited, kill } = await startBound({
    ...jailed(jail),
    ...{ argv, cwd, taps },
    sockets: 3,
  });
  return {
    pid,
    output: streams.slice(0, 1),
    channels: streams.slice(1),
    ended: exited.then((status) => signalName(status?.signal) ?? `exit code ${status?.code}`),
    kill,
  };
}

const signalName = (number: number | undefined): string | undefined =>
  Object.entries(constants.signals).find(([, value]) => value === number)?.[0];

/** Long enough for a panic. */
const keptOutput = 4096;

/** Starts it. @throws TSV_HOST_MISSING, TSV_SYSCALL */
export async function startTemplateQemu(
  request: TemplateQemuRequest,
  { background, signal }: QemuOptions,
): Promise<TemplateQemu> {
  const child = await (request.own === undefined ? startAsWeAre(request) : startAsItself(request, request.own));
  const [console, qmp, guest] = child.channels;
  if (console === undefined || qmp === undefined || guest === undefined) throw new TypeError('QEMU has no channels');
  if (background) setPriority(child.pid, 10);
  let said = '';
  for (const stream of [...child.output, console])
    stream?.setEncoding('utf8').on('data', (text: string | Buffer) => {
      said = (said + text).slice(-keptOutput);
    });
  for (const socket of [...child.output, console, qmp, guest]) socket?.on('error', () => {});
  const ended = child.ended.then((how) => {
    throw new Error(`QEMU ended (${how})`);
  });
  ended.catch(() => {});
  const interrupted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  interrupted.catch(() => {});
  if (signal.aborted) child.kill();
  return {
    pid: child.pid,
    uid: request.own?.jail.uid,
    qmp,
    guest,
    nics: request.argv.filter((word) => word.startsWith('virtio-net-pci,')).length,
    said: () => said,
    unlessItEnds: (work) => Promise.race([work, ended, interrupted]),
    async end() {
      child.kill();
      await child.ended.catch(() => {});
    },
  };
}

/** Until its CPUs do next to nothing. There is no event for that. */
export async function untilAtRest(pid: number, signal: AbortSignal): Promise<void> {
  let quiet = 0;
  let before = cpuTicks(pid);
  for (let waited = 0; waited < restMs && quiet < 3; waited += restEveryMs) {
    await pause(restEveryMs, undefined, { signal });
    const now = cpuTicks(pid);
    quiet = now - before <= 3 ? quiet + 1 : 0;
    before = now;
  }
}

/** Hundredths of a second that it ran: fields 14 and 15 of /proc/PID/stat, behind the name in parentheses (proc(5)). */
function cpuTicks(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
