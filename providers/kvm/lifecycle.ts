import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { TsvError } from '../../src/model/errors.ts';
import type { Launcher } from '../../src/model/launch.ts';
import type { Load, MachineContext, Provider, StartResult } from '../../src/model/provider.ts';
import type { Ending, Observed, ProcessRef } from '../../src/model/state.ts';
import { readIdentity } from '../../src/ssh/identity.ts';
import { templatesFolder } from '../../src/store/template/layout.ts';
import type { Template } from '../../src/store/template/template.ts';
import { lostEnding, readEnding } from '../../src/sys/kept-files.ts';
import { wasStarved } from '../../src/sys/kernel-log.ts';
import { isAlive } from '../../src/sys/process.ts';
import { syncFolder } from '../../src/sys/sync-folder.ts';
import type { Accel, AccelChooser } from './accel.ts';
import { mostOf } from './adjust.ts';
import { type NicBackend, qemuArguments } from './arguments.ts';
import { type Attachment, attach, findQemu, QemuGone, within } from './attachment.ts';
import { beginLog, lastLogLines, lastPanic } from './console.ts';
import { credentials, identityFiles, writeCredentials } from './credentials.ts';
import { type BoxDisk, checkBoxDisk, checkDataDisk, checkOverlay, makeOverlay } from './disk.ts';
import { endingOfQemu } from './ending.ts';
import { type MachineFiles, machineFiles } from './files.ts';
import { asObject, type Qmp } from './qmp.ts';
import { loadMemory, notLoaded, type Shape, shapeIn } from './snapshot.ts';
import { machineSpec } from './spec.ts';
import { errorText } from './text.ts';
import { goOn, isWarmable, takeTemplate } from './warm.ts';

/** From the launch until QEMU's sockets answer: it reads firmware, kernel and initrd first, maybe from a busy disk. */
const launchMs = 60_000;
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

/** What a start goes on from, and not through a boot. */
interface StartFrom {
  readonly template?: Template;
  readonly load?: { readonly tag: string; readonly shape: Shape };
}

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

  const launch = async (
    context: MachineContext,
    boxDisk: BoxDisk,
    accelName: 'kvm' | 'tcg',
    { template, load }: StartFrom,
  ): Promise<ProcessRef> => {
    const files = machineFiles(context);
    const identity = readIdentity(files.identity);
    checkBoxDisk(boxDisk);
    if (existsSync(files.unused)) await makeOverlay(files, boxDisk, template?.disk);
    checkOverlay(files.disk, boxDisk, templatesFolder(store));
    for (const disk of context.machine.disks) checkDataDisk(files.dataDisk(disk));
    mkdirSync(context.runDir, { recursive: true, mode: 0o700 });
    for (const stale of [...sockets(files), files.qemuLog]) rmSync(stale, { force: true });
    beginLog(files.consoleLog);
    const resolver = {
      search: context.projectName,
      nameServers: context.addresses.flatMap(({ network }) => context.networks[network]?.gateway ?? []),
    };
    const own = identityFiles(identity, context.box.user, context.machine.hostname, resolver);
    const argv = qemuArguments({
      ...machineSpec(context, files, identity, {
        accel: accelName,
        balloon: load?.shape.balloon ?? template === undefined,
        incoming: template !== undefined,
        nics: context.addresses.map(({ mac }, index) => ({ mac, backend: nic(context.machine.name, index) })),
        smbiosStrings: writeCredentials(files.credentials, credentials(own)),
        ...(template === undefined ? {} : { memoryFile: { path: template.memory, shared: false } }),
      }),
      ...(load === undefined ? {} : shapeSpec(load.shape)),
    });
    const request = { argv, net: 'sandbox', logFile: files.qemuLog, exitDir: context.dir, cwd: '/' } as const;
    if (template === undefined) return launcher.launch(request);
    const devices = openSync(template.devices, 'r');
    try {
      return await launcher.launch({ ...request, fds: [devices] });
    } finally {
      closeSync(devices);
    }
  };

  /** Launches, and lets its CPUs go. What fails leaves no process. */
  const begin = async (
    context: MachineContext,
    boxDisk: BoxDisk,
    chosen: Accel,
    from: StartFrom,
    { signal, record }: { signal: AbortSignal; record: (process: ProcessRef) => Promise<void> },
  ): Promise<StartResult> => {
    const { template, load } = from;
    const files = machineFiles(context);
    let process: ProcessRef | undefined;
    try {
      process = await launch(context, boxDisk, chosen.accel, from);
      await record(process);
      const { qmp } = await hold(context, process, { timeoutMs: launchMs, signal });
      if (template !== undefined) await unlessAborted(goOn(qmp, context, files, readIdentity(files.identity)), signal);
      const most = await mostOf(qmp);
      // From here on the disk is the machine's own: no start makes it anew.
      if (existsSync(files.unused)) {
        rmSync(files.unused);
        syncFolder(context.dir);
      }
      if (load !== undefined)
        await loadMemory(qmp, load.tag, load.shape).catch((error: unknown) => {
          throw notLoaded(context.machine.name, error);
        });
      else if (template === undefined) await qmp.execute('cont');
      return {
        process,
        accel: chosen,
        most,
        ...(load === undefined ? { boot: template === undefined ? 'cold' : 'warm' } : {}),
      };
    } catch (error) {
      if (process !== undefined) await killAndWait(process);
      throw error;
    }
  };

  /** One that runs already, maybe with its CPUs still to be let go. */
  const goOnWith = async (
    context: MachineContext,
    process: ProcessRef,
    signal: AbortSignal,
    record: (process: ProcessRef) => Promise<void>,
  ): Promise<StartResult> => {
    await record(process);
    const { qmp } = await hold(context, process, { timeoutMs: launchMs, signal });
    const most = await mostOf(qmp);
    if ((await status(qmp)) === 'prelaunch') await qmp.execute('cont');
    return { process, accel: await reportedAccel(qmp), most };
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
      const state = await status(attachment.qmp, answerMs);
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

    async start(
      context: MachineContext,
      boxDisk: BoxDisk,
      signal: AbortSignal,
      notice: (text: string) => void,
      record: (process: ProcessRef) => Promise<void>,
      load?: Load,
    ): Promise<StartResult> {
      const shape = load === undefined ? undefined : shapeIn(load.provider);
      const files = machineFiles(context);
      const { machine } = context;
      const { name } = machine;
      const failed = (error: unknown): TsvError =>
        signal.aborted ? cancelled(name) : startFailure(name, files, error);
      const running = find(context, files);
      if (running !== undefined && !existsSync(files.unused))
        return goOnWith(context, running, signal, record).catch((error: unknown) => Promise.reject(failed(error)));
      if (running !== undefined) await killAndWait(running); // a start that was cut short: it is nobody yet
      const chosen = await accel.choose(shape?.accel ?? machine.accel, context.box.kernel);
      if (signal.aborted) throw cancelled(name);
      if (chosen.accel === 'tcg' && machine.accel === 'auto' && load === undefined) {
        notice(`${name} runs without hardware acceleration, several times slower: ${chosen.reason}`);
      }
      const attempt = (from: StartFrom) => begin(context, boxDisk, chosen, from, { signal, record });
      if (load !== undefined && shape !== undefined)
        return attempt({ load: { tag: load.tag, shape } }).catch((error: unknown) => Promise.reject(failed(error)));
      if (isWarmable(context, files)) {
        const template = await takeTemplate(context, chosen.accel, { store, facts: accel.facts() });
        const why = typeof template === 'string' ? template : await attempt({ template }).catch(errorText);
        if (typeof why !== 'string') return why;
        if (signal.aborted) throw cancelled(name);
        notice(`${name} boots cold: ${why.split('\n')[0]}`);
      }
      return attempt({}).catch((error: unknown) => Promise.reject(failed(error)));
    },

    async stop(context: MachineContext, options: StopOptions): Promise<void> {
      const files = machineFiles(context);
      const process = find(context, files);
      if (process !== undefined) await bringDown(context, process, options);
      for (const socket of sockets(files)) rmSync(socket, { force: true });
    },

    /** How QEMU ended; what it said of that is in its log. */
    async ending(context: MachineContext): Promise<Ending> {
      const attachment = await held.get(context.dir)?.attaching.catch(() => undefined);
      await attachment?.exited;
      await attachment?.console.closed; // then all of its output is in the log
      const files = machineFiles(context);
      for (const socket of sockets(files)) rmSync(socket, { force: true });
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

const shapeSpec = ({ machineType, bootCpus, mostCpus, memoryBytes }: Shape) => ({
  machineType,
  cpus: bootCpus,
  mostCpus,
  memoryBytes,
});

/** RunState of QEMU's QAPI: `prelaunch`, `running`, `paused`, `shutdown`, … */
async function status(qmp: Qmp, timeoutMs?: number): Promise<string> {
  const answer = await qmp.execute('query-status', {}, timeoutMs === undefined ? {} : { timeoutMs });
  return String(asObject(answer).status);
}

/** What a QEMU that somebody else started runs on. */
async function reportedAccel(qmp: Qmp): Promise<{ accel: 'kvm' | 'tcg'; reason: string }> {
  const enabled = asObject(await qmp.execute('query-kvm')).enabled === true;
  return { accel: enabled ? 'kvm' : 'tcg', reason: 'as QEMU says; it was running already' };
}

const sockets = ({ qmpSocket, consoleSocket, guestSocket }: MachineFiles) => [qmpSocket, consoleSocket, guestSocket];

/** What `work` gives, unless the signal fires first. */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const over = new AbortController();
  const aborted = once(signal, 'abort', { signal: over.signal }).then(() => Promise.reject(signal.reason));
  aborted.catch(() => {});
  work.catch(() => {});
  try {
    signal.throwIfAborted();
    return await Promise.race([work, aborted]);
  } finally {
    over.abort();
  }
}

const cancelled = (name: string): TsvError =>
  new TsvError('TSV_CANCELLED', `starting ${name} was interrupted`, { exitCode: 130 });

const died = (name: string, files: MachineFiles): TsvError =>
  new TsvError('TSV_VM_DIED', `${name}: its QEMU ended`, {
    details: lastLogLines(files.qemuLog, 8),
    hint: `tsv up ${name} starts it again`,
  });

function startFailure(name: string, files: MachineFiles, error: unknown): TsvError {
  // TSV_SANDBOX from the launcher: QEMU was gone before its process could be noted. Its own words tell more.
  if (error instanceof TsvError && error.code !== 'TSV_SANDBOX') return error;
  const said = lastLogLines(files.qemuLog, 8);
  return new TsvError('TSV_VM_START', `${name}: QEMU could not be started`, {
    details: [errorText(error), ...said],
    hint: 'what QEMU says above tells why; tsv doctor checks what this host lacks',
    cause: error,
  });
}
