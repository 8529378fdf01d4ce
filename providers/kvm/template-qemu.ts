import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { TsvError } from '../../src/model/errors.ts';

/** A guest that has booted is still busy for a while; one that never rests is taken as it is. */
const restMs = 30_000;
const restEveryMs = 250;

export interface QemuOptions {
  readonly signal: AbortSignal;
  /** It is for later: it does not get in the way of what is wanted now. */
  readonly background: boolean;
}

/** A QEMU that ends with this process, however that ends. */
export interface TemplateQemu {
  readonly pid: number;
  readonly qmp: Socket;
  readonly guest: Socket;
  readonly nics: number;
  /** The end of what it and its console printed. */
  said(): string;
  /** What `work` gives, or how QEMU ended, or the signal's reason. */
  unlessItEnds<T>(work: Promise<T>): Promise<T>;
  end(): Promise<void>;
}

/** Whoever was killed before this had the signal set sends none. `$0`: its process number. */
const unlessOrphaned = '[ "$PPID" = "$0" ] && exec "$@"';

/** Long enough for a panic. */
const keptOutput = 4096;

/** Starts it with its channels as {@link templateFds} has them. @throws TSV_HOST_MISSING */
export function startTemplateQemu(
  argv: readonly string[],
  dir: string,
  { background, signal }: QemuOptions,
): TemplateQemu {
  // Its network cards end in a namespace of its own, which goes with it; so does it with us.
  const own = process.geteuid?.() === 0 ? ['--net'] : ['--user', '--map-root-user', '--net'];
  const bound = ['setpriv', '--pdeathsig', 'KILL', '--', 'sh', '-c', unlessOrphaned, String(process.pid)];
  const child: ChildProcess = spawn('unshare', [...own, '--', ...bound, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe', 'pipe'],
    cwd: dir,
  });
  child.on('error', () => {}); // no such program: it has no pid then
  const [, , , console, qmp, guest] = child.stdio as unknown as Socket[];
  if (console === undefined || qmp === undefined || guest === undefined || child.pid === undefined)
    throw new TsvError('TSV_HOST_MISSING', 'the program unshare cannot be started', {
      hint: 'sudo apt-get install util-linux',
    });
  if (background) setPriority(child.pid, 10);
  let said = '';
  for (const stream of [child.stdout, child.stderr, console])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-keptOutput);
    });
  for (const socket of [console, qmp, guest]) socket.on('error', () => {});
  const closed = once(child, 'close');
  closed.catch(() => {});
  const ended = closed.then(([code, name]) => {
    throw new Error(`QEMU ended (${name ?? `exit code ${code}`})`);
  });
  ended.catch(() => {});
  const interrupted = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
  interrupted.catch(() => {});
  if (signal.aborted) child.kill('SIGKILL');
  return {
    pid: child.pid,
    qmp,
    guest,
    nics: argv.filter((word) => word.startsWith('virtio-net-pci,')).length,
    said: () => said,
    unlessItEnds: (work) => Promise.race([work, ended, interrupted]),
    async end() {
      child.kill('SIGKILL');
      await closed.catch(() => {});
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
