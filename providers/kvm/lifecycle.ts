import { existsSync, rmSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { TsvError } from '../../src/model/errors.ts';
import type { Launcher } from '../../src/model/launch.ts';
import type { MachineContext, Provider } from '../../src/model/provider.ts';
import type { Ending, Observed, ProcessRef } from '../../src/model/state.ts';
import { lostEnding, readEnding } from '../../src/sys/kept-files.ts';
import { wasStarved } from '../../src/sys/kernel-log.ts';
import { isAlive } from '../../src/sys/process.ts';
import type { AccelChooser } from './accel.ts';
import type { NicBackend } from './arguments.ts';
import { type Attachment, attach, findQemu, QemuGone, within } from './attachment.ts';
import { lastLogLines, lastPanic } from './console.ts';
import { endingOfQemu } from './ending.ts';
import { type MachineFiles, machineFiles, runFiles } from './files.ts';
import { runState } from './qmp.ts';
import { createStart } from './start.ts';
import { errorText } from './text.ts';

/** One that ran already answers at once, or is hung. */
const adoptMs = 10_000;
/** A QEMU that does not answer QMP for this long is hung. */
const answerMs = 3000;
/** The power button again: a guest that was still booting did not see it. */
const powerButtonEveryMs = 3000;
/** From the end of its conversation until the process is gone, where that is why it ended. */
const exitNoticeMs = 500;
/** From `quit` or SIGKILL until the process has to be gone. */
const quitMs = 2000;

export interface LifecycleOptions {
  readonly launcher: Launcher;
  /** The per-user store, which has the templates. */
  readonly store: string;
  readonly accel: AccelChooser;
  readonly nic: (machine: string, index: number) => NicBackend;
}

export type Lifecycle = ReturnType<typeof createLifecycle>;

type StopOptions = Parameters<Provider['stop']>[1];

/** Starting, finding, stopping of QEMU processes; keeps hold of those that run. */
export function createLifecycle({ launcher, store, accel, nic }: LifecycleOptions) {
  /** By `context.dir`. An entry leaves when its process is gone. */
  const held = new Map<string, { readonly process: ProcessRef; readonly attaching: Promise<Attachment> }>();

  /** The machine's QEMU: the recorded one, or one whose record was lost with its agent. */
  const find = (context: MachineContext, files: MachineFiles): ProcessRef | undefined =>
    isAlive(context.process) ? context.process : findQemu(files);

  /** One attachment per process, however many ask at once: QMP serves one client at a time. */
  const hold = (
    context: MachineContext,
    process: ProcessRef,
    { timeoutMs, signal }: { timeoutMs: number; signal?: AbortSignal } = { timeoutMs: adoptMs },
  ): Promise<Attachment> => {
    const known = held.get(context.dir);
    if (known?.process.pid === process.pid && known.process.startTime === process.startTime) return known.attaching;
    const options = { timeoutMs, ...(signal === undefined ? {} : { signal }) };
    const attaching = attach(launcher, process, machineFiles(context), options);
    const entry = { process, attaching };
    held.set(context.dir, entry);
    const forget = () => {
      if (held.get(context.dir) === entry) held.delete(context.dir);
    };
    attaching.then((attachment) => {
      void attachment.exited.then(forget);
      // It would boot again, and panic again, for as long as nobody looks. Its restart policy decides.
      void attachment.panicked.then(() => end(attachment));
    }, forget);
    return attaching;
  };

  const killAndWait = async (process: ProcessRef): Promise<void> => {
    launcher.kill(process, 'SIGKILL');
    await launcher.exited(process);
  };

  /** The last resort asks for `quit` first: QEMU then writes its disks' tables out. */
  const end = async ({ qmp, exited, process }: Attachment): Promise<void> => {
    // QEMU may close the socket before it has answered: only the exit counts.
    qmp.execute('quit', {}, { timeoutMs: quitMs }).catch(() => {});
    if (!(await within(exited, quitMs))) await killAndWait(process);
  };

  /** Ends a QEMU, in its own way as far as it answers. */
  const bringDown = async (
    context: MachineContext,
    process: ProcessRef,
    { force, timeoutMs = context.machine.stopTimeoutMs, forced }: StopOptions,
  ): Promise<void> => {
    try {
      const holding = hold(context, process);
      if (!(await within(holding, answerMs))) throw new Error('it does not answer');
      const attachment = await holding;
      const state = await runState(attachment.qmp, answerMs);
      const runs = state !== 'prelaunch'; // before that it has nothing to shut down
      const off = !force && runs && (await powerOff(attachment, state, timeoutMs));
      if (!off && !force && runs) forced?.(`it had not powered off after ${timeoutMs / 1000} s, and was ended`);
      if (!off) await end(attachment);
      await attachment.console.closed; // its last words are in the log
    } catch {
      // It is hung, or on its way out already.
      if (!(await within(launcher.exited(process), exitNoticeMs)) && !force)
        forced?.('its QEMU did not answer, and was killed');
      await killAndWait(process);
    }
  };

  return {
    async observe(context: MachineContext): Promise<Observed> {
      const files = machineFiles(context);
      // Looking at every process costs milliseconds: only where a control socket says that there may be one.
      const recorded = isAlive(context.process) || existsSync(files.qmpSocket);
      const process = recorded ? find(context, files) : undefined;
      if (process !== undefined) return { state: 'running', process };
      const parts = {
        disk: existsSync(files.disk) || existsSync(files.unused),
        'identity folder': existsSync(files.identity),
      };
      const missing = Object.entries(parts).flatMap(([name, there]) => (there ? [] : [name]));
      if (missing.length === Object.keys(parts).length) return { state: 'absent' };
      if (missing.length > 0)
        return { state: 'broken', reasons: missing.map((name) => `its ${name} is missing in ${context.dir}`) };
      return { state: 'stopped', unexpectedly: context.process !== undefined };
    },

    start: createStart({ launcher, store, accel, nic, find, hold, killAndWait }),

    async stop(context: MachineContext, options: StopOptions): Promise<void> {
      const files = machineFiles(context);
      const process = find(context, files);
      if (process !== undefined) await bringDown(context, process, options);
      for (const file of runFiles(files)) rmSync(file, { force: true });
    },

    /** How QEMU ended; what it said of that is in its log. */
    async ending(context: MachineContext): Promise<Ending> {
      const attachment = await held.get(context.dir)?.attaching.catch(() => undefined);
      await attachment?.exited;
      await attachment?.console.closed; // then all of its output is in the log
      const files = machineFiles(context);
      for (const file of runFiles(files)) rmSync(file, { force: true });
      const ended = readEnding(context.dir) ?? lostEnding();
      const ending = endingOfQemu(ended, lastLogLines(files.qemuLog, 8), lastPanic(files.consoleLog));
      const { process } = context;
      const starved = ending.signal === 'KILL' && process !== undefined && wasStarved(process);
      return starved ? { ...ending, why: 'oom' } : ending;
    },

    /** The hold on a running machine; adopts it when this instance did not start it. @throws TSV_NOT_RUNNING, TSV_VM_DIED */
    async attached(context: MachineContext): Promise<Attachment> {
      const files = machineFiles(context);
      const process = find(context, files);
      if (process === undefined) {
        if (context.process !== undefined) throw died(context.machine.name, files);
        throw new TsvError('TSV_NOT_RUNNING', `${context.machine.name} is not running`, {
          hint: `tsv up ${context.machine.name}`,
        });
      }
      try {
        return await hold(context, process);
      } catch (error) {
        if (error instanceof QemuGone) throw died(context.machine.name, files);
        throw new TsvError(
          'TSV_VM_DIED',
          `${context.machine.name}: its QEMU (process ${process.pid}) does not answer`,
          {
            details: [errorText(error)],
            hint: `tsv halt --force ${context.machine.name}, then tsv up`,
            cause: error,
          },
        );
      }
    },

    async detachAll(): Promise<void> {
      const all = [...held.values()];
      held.clear();
      for (const { attaching } of all) (await attaching.catch(() => undefined))?.detach();
    },
  };
}

/** Presses the ACPI power button, again and again, until the process is gone (true) or the time is up (false). */
async function powerOff({ qmp, exited }: Attachment, state: string, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  if (state === 'paused') await qmp.execute('cont', {}, { timeoutMs: answerMs });
  for (;;) {
    const left = deadline - performance.now();
    if (left <= 0) return false;
    await qmp.execute('system_powerdown', {}, { timeoutMs: answerMs });
    if (await within(exited, Math.min(left, powerButtonEveryMs))) return true;
  }
}

const died = (name: string, files: MachineFiles): TsvError =>
  new TsvError('TSV_VM_DIED', `${name}: its QEMU ended`, {
    details: lastLogLines(files.qemuLog, 8),
    hint: `tsv up ${name} starts it again`,
  });
