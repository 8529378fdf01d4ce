import { chmodSync, chownSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import type { Launcher } from '../../src/model/launch.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import { keeperOf } from '../../src/sys/keeper-of.ts';
import { processRef } from '../../src/sys/process.ts';
import { boundForeignLog, type Console, connectConsole } from './console.ts';
import type { MachineFiles } from './files.ts';
import { connectQmp, type Qmp } from './qmp.ts';
import { errorText } from './text.ts';

const exitNoticeMs = 500;
const socketPauseMs = 5;

/** Hold on a running QEMU: its process, its control socket, its console. */
export interface Attachment {
  readonly process: ProcessRef;
  readonly qmp: Qmp;
  readonly console: Console;
  /** Fires when the process is gone, and its keeper has noted how it ended. */
  readonly exited: Promise<void>;
  /** Fires with the reason when its kernel panics and, as it was told by `panic=-1`, resets the machine. */
  readonly panicked: Promise<string>;
  /** Lets go; QEMU runs on. */
  detach(): void;
}

/** QEMU ended before it could be attached to. */
export class QemuGone extends Error {
  override readonly name = 'QemuGone';
}

/**
 * Connects to the sockets of a QEMU that was just launched, or that an earlier agent left running.
 * The console comes first: whoever then sends `cont` misses nothing.
 * @throws QemuGone, the signal's reason, or Error when it does not answer within `timeoutMs`.
 */
export async function attach(
  launcher: Launcher,
  process: ProcessRef,
  files: MachineFiles,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<Attachment> {
  const keeper = keeperOf(process.pid);
  const exited = launcher.exited(process).then(() => (keeper === undefined ? undefined : launcher.exited(keeper)));
  let gone = false;
  void exited.then(() => {
    gone = true;
  });
  const deadline = performance.now() + options.timeoutMs;
  /** The socket is not there yet right after a launch: there is no event for that, and it is a matter of milliseconds. */
  const whenThere = async <T>(connect: () => Promise<T>, what: string): Promise<T> => {
    for (;;) {
      options.signal?.throwIfAborted();
      if (gone) throw new QemuGone('QEMU ended');
      try {
        return await connect();
      } catch (error) {
        const early = ['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '');
        // A connection breaks a moment before the process is gone: which of the two it is decides the message.
        if (!early) await within(exited, exitNoticeMs);
        if (gone) throw new QemuGone('QEMU ended', { cause: error });
        if (!early || performance.now() > deadline) {
          throw new Error(`${what} does not answer: ${errorText(error)}`, { cause: error });
        }
      }
      await within(exited, socketPauseMs);
    }
  };
  const console = await whenThere(() => connectConsole(files.consoleSocket, files.consoleLog), "QEMU's console socket");
  try {
    const qmp = await whenThere(
      () => connectQmp(files.qmpSocket, { timeoutMs: Math.max(1, deadline - performance.now()) }),
      "QEMU's control socket",
    );
    keepSockets(files.runDir);
    const unwatch = boundForeignLog(files.qemuLog);
    const panicked = watchPanic(qmp, console);
    const detach = () => {
      unwatch();
      qmp.close();
      console.close();
    };
    // Not at once: what it printed last may still be on its way. The socket ends with QEMU.
    void Promise.all([exited, console.closed]).then(detach);
    return { process, qmp, console, exited, panicked, detach };
  } catch (error) {
    console.close();
    throw error;
  }
}

/**
 * A QEMU with a user of its own made its sockets in a folder of its own, and has no guest yet, or one that was here already. From now
 * on it cannot put anything else in their place. Others do not get to the folder.
 */
function keepSockets(folder: string): void {
  if (statSync(folder).uid === process.geteuid?.()) return;
  chownSync(folder, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  chmodSync(folder, 0o711);
}

/**
 * A panic is told by two: the console has the kernel's line, which anybody in the guest can print, and QEMU says that the guest
 * has reset the machine, which a reboot does as well.
 */
const watchPanic = (qmp: Qmp, console: Console): Promise<string> =>
  new Promise((resolve) => {
    qmp.onEvent(({ event, data }) => {
      if (event !== 'RESET' || data.guest !== true) return;
      // What the guest printed before is there, but may not have been read yet.
      setImmediate(() => {
        const reason = console.panic();
        if (reason !== undefined) resolve(reason);
      });
    });
  });

/** Whether `work` was done within `ms`. Leaves no timer behind; rejects as `work` does. */
export async function within(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The QEMU that serves a control socket, found by its command line: for one whose launcher was killed before it could
 * write down the process. The socket's path is this machine's own, so nothing else can match.
 */
export function findQemu(files: MachineFiles): ProcessRef | undefined {
  const wanted = `path=${files.qmpSocket.replaceAll(',', ',,')},`;
  for (const entry of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const argv = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0');
      if (!argv.some((word) => word.startsWith('socket,id=qmp,') && word.includes(wanted))) continue;
    } catch {
      continue; // it ended meanwhile, or is somebody else's
    }
    const ref = processRef(Number(entry));
    if (ref !== undefined) return ref;
  }
  return undefined;
}
