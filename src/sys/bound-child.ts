import { closeSync, openSync, realpathSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Jail } from '../model/launch.ts';
import { type ExitStatus, findProgram, keepAlive, signalProcess, waitExit } from './children.ts';
import { CLONE, O, PR } from './flags.ts';
import { fork, stdio } from './fork.ts';
import { enterJail, giveUpRoot } from './jail.ts';
import { syscall, withBytes } from './libc.ts';
import { processRef } from './process.ts';
import type { Step } from './program.ts';
import { openTaps } from './taps.ts';

const SIGKILL = 9;

/** A child that ends with this process, however that ends. */
export interface BoundChild {
  readonly pid: number;
  /** The other ends of its output and of descriptors 3, 4, …, as many as were asked for. */
  readonly streams: readonly Socket[];
  readonly exited: Promise<ExitStatus | undefined>;
  kill(): void;
}

export interface BoundRequest {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** In the jail. */
  readonly cwd: string;
  /** How many sockets it gets as 3, 4, … */
  readonly sockets: number;
  /** Made in a network namespace that is its own: 16, 17, … */
  readonly taps: readonly string[];
  readonly jail: Jail;
}

/** Starts it as root of the host, in a jail. @throws TSV_HOST_MISSING, TSV_SYSCALL */
export async function startBound(request: BoundRequest): Promise<BoundChild> {
  const [name = ''] = request.argv;
  const file = realpathSync(findProgram(name));
  const pairs = Array.from({ length: 1 + request.sockets }, socketPair);
  const output = pairs[0]?.[1] ?? -1;
  const given = pairs.slice(1).map(([, theirs]) => theirs);
  const nothing = openSync('/dev/null', 'r');
  const fds = {
    stdin: nothing,
    stdout: output,
    stderr: output,
    ...Object.fromEntries(given.map((fd, i) => [`given${i}`, fd])),
  };
  const steps: Step[] = [
    { call: 'unshare', args: [CLONE.NEWNET], note: 'a network namespace of its own' },
    ...openTaps(request.taps),
    ...enterJail(request.jail),
    { call: 'chdir', args: [request.cwd] },
    ...giveUpRoot(request.jail.uid),
    // Forgotten with a change of user, so not before. Whoever was killed before this does not say `go`.
    { call: 'prctl', args: [PR.SET_PDEATHSIG, SIGKILL, 0, 0, 0] },
    { report: 'ready' },
    { call: 'read', args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1], mode: 'positive' },
    ...stdio(),
    ...given.map((_, i): Step => ({ call: 'dup3', args: [{ fd: `given${i}` }, 3 + i, 0] })),
    {
      call: 'execve',
      args: [
        file,
        { strings: [...request.argv] },
        { strings: Object.entries(request.env).map(([key, value]) => `${key}=${value}`) },
      ],
    },
  ];
  try {
    const child = fork({ fds, steps });
    const exited = waitExit(child.pid);
    const ref = processRef(child.pid);
    await child.reported('ready');
    child.go();
    await child.executed;
    return {
      pid: child.pid,
      streams: pairs.map(([ours]) => new Socket({ fd: ours })),
      exited: keepAlive(exited),
      kill: () => void signalProcess(ref, SIGKILL),
    };
  } catch (error) {
    for (const [ours] of pairs) closeSync(ours);
    throw error;
  } finally {
    closeSync(nothing);
    for (const [, theirs] of pairs) closeSync(theirs);
  }
}

/** socketpair(2) of stream sockets. */
function socketPair(): [ours: number, theirs: number] {
  const [AF_UNIX, SOCK_STREAM] = [1, 1];
  return withBytes(new Uint8Array(8), (pointer, bytes) => {
    syscall('socketpair', 'a pair of sockets', AF_UNIX, SOCK_STREAM | O.CLOEXEC, 0, pointer);
    return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
  });
}
