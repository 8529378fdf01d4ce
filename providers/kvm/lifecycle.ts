import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { TsvError } from '../../src/model/errors.ts';
import type { Launcher } from '../../src/model/launch.ts';
import type { Load, MachineContext, Provider, StartResult } from '../../src/model/provider.ts';
import type { Ending, Observed, ProcessRef } from '../../src/model/state.ts';
import { asUuid, type Identity, readIdentity } from '../../src/ssh/identity.ts';
import { lostEnding, readEnding } from '../../src/sys/kept-files.ts';
import { wasStarved } from '../../src/sys/kernel-log.ts';
import { isAlive } from '../../src/sys/process.ts';
import type { AccelChooser } from './accel.ts';
import { mostOf, placesForCpus } from './adjust.ts';
import { type NicBackend, qemuArguments } from './arguments.ts';
import { type Attachment, attach, findQemu, QemuGone, within } from './attachment.ts';
import { beginLog, lastLogLines } from './console.ts';
import { credentials, writeCredentials } from './credentials.ts';
import { type BoxDisk, checkBoxDisk, checkDataDisk, checkOverlay } from './disk.ts';
import { endingOfQemu } from './ending.ts';
import { type MachineFiles, machineFiles } from './files.ts';
import { qemuProgram } from './probe.ts';
import { asObject, type Qmp } from './qmp.ts';
import { loadMemory, notLoaded, type Shape, shapeIn } from './snapshot.ts';
import { errorText } from './text.ts';

/** From the launch until QEMU's sockets answer: it reads firmware, kernel and initrd first, maybe from a busy disk. */
const launchMs = 60_000;
/** One that ran already answers at once, or is hung. */
const adoptMs = 10_000;
/** A QEMU that does not answer QMP for this long is hung. */
const answerMs = 3000;
/** The power button again: a guest that was still booting did not see it. */
const powerButtonEveryMs = 3000;
/** From `quit` or SIGKILL until the process has to be gone. */
const quitMs = 2000;

export interface LifecycleOptions {
  readonly launcher: Launcher;
  readonly accel: AccelChooser;
  readonly nic: (machine: string, index: number) => NicBackend;
}

export type Lifecycle = ReturnType<typeof createLifecycle>;

type StopOptions = Parameters<Provider['stop']>[1];

/** Starting, finding, stopping of QEMU processes; keeps hold of those that run. */
export function createLifecycle({ launcher, accel, nic }: LifecycleOptions) {
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
    attaching.then(({ exited }) => exited.then(forget), forget);
    return attaching;
  };

  const launch = async (
    context: MachineContext,
    boxDisk: BoxDisk,
    accelName: 'kvm' | 'tcg',
    shape: Shape | undefined,
  ): Promise<ProcessRef> => {
    const files = machineFiles(context);
    const identity = readIdentity(files.identity);
    checkBoxDisk(boxDisk);
    checkOverlay(files.disk, boxDisk);
    for (const disk of context.machine.disks) checkDataDisk(files.dataDisk(disk));
    mkdirSync(context.runDir, { recursive: true, mode: 0o700 });
    for (const stale of [files.qmpSocket, files.consoleSocket, files.qemuLog]) rmSync(stale, { force: true });
    beginLog(files.consoleLog);
    const smbiosStrings = writeCredentials(
      files.credentials,
      credentials(identity, context.box.user, context.machine.hostname, {
        search: context.projectName,
        nameServers: context.addresses.flatMap(({ network }) => context.networks[network]?.gateway ?? []),
      }),
    );
    const argv = qemuArguments({
      ...machineSpec(context, files, identity),
      ...(shape === undefined ? {} : shapeSpec(shape)),
      accel: accelName,
      nics: context.addresses.map(({ mac }, index) => ({ mac, backend: nic(context.machine.name, index) })),
      smbiosStrings,
    });
    return launcher.launch({ argv, net: 'sandbox', logFile: files.qemuLog, exitDir: context.dir, cwd: '/' });
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
    { force, timeoutMs = context.machine.stopTimeoutMs }: StopOptions,
  ): Promise<void> => {
    try {
      const holding = hold(context, process);
      if (!(await within(holding, answerMs))) return await killAndWait(process);
      const attachment = await holding;
      const state = await status(attachment.qmp, answerMs);
      const off = !force && state !== 'prelaunch' && (await powerOff(attachment, state, timeoutMs));
      if (!off) await end(attachment);
      await attachment.console.closed; // its last words are in the log
    } catch {
      // It is hung, or on its way out already.
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
      const parts = { disk: existsSync(files.disk), 'identity folder': existsSync(files.identity) };
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
      const running = find(context, files);
      const chosen =
        running === undefined ? await accel.choose(shape?.accel ?? machine.accel, context.box.kernel) : undefined;
      if (signal.aborted) throw cancelled(machine.name);
      if (chosen?.accel === 'tcg' && machine.accel === 'auto' && load === undefined) {
        notice(`${machine.name} runs without hardware acceleration, several times slower: ${chosen.reason}`);
      }
      let process = running;
      try {
        process ??= await launch(context, boxDisk, chosen?.accel ?? 'tcg', shape);
        await record(process);
        const { qmp } = await hold(context, process, { timeoutMs: launchMs, signal });
        const most = await mostOf(qmp);
        if (load !== undefined && shape !== undefined)
          await loadMemory(qmp, load.tag, shape).catch((error: unknown) => {
            throw notLoaded(machine.name, error);
          });
        else if ((await status(qmp)) === 'prelaunch') await qmp.execute('cont');
        return { process, accel: chosen ?? (await reportedAccel(qmp)), ...(most === undefined ? {} : { most }) };
      } catch (error) {
        if (running === undefined && process !== undefined) await killAndWait(process);
        if (signal.aborted) throw cancelled(machine.name);
        throw startFailure(machine.name, files, error);
      }
    },

    async stop(context: MachineContext, options: StopOptions): Promise<void> {
      const files = machineFiles(context);
      const process = find(context, files);
      if (process !== undefined) await bringDown(context, process, options);
      for (const socket of [files.qmpSocket, files.consoleSocket]) rmSync(socket, { force: true });
    },

    /** How QEMU ended; what it said of that is in its log. */
    async ending(context: MachineContext): Promise<Ending> {
      const attachment = await held.get(context.dir)?.attaching.catch(() => undefined);
      await attachment?.exited;
      await attachment?.console.closed; // then all of its output is in the log
      const files = machineFiles(context);
      for (const socket of [files.qmpSocket, files.consoleSocket]) rmSync(socket, { force: true });
      const ending = endingOfQemu(readEnding(context.dir) ?? lostEnding(), lastLogLines(files.qemuLog, 8));
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

function machineSpec(context: MachineContext, files: MachineFiles, identity: Identity) {
  const { machine, box } = context;
  const words = [
    ...(box.cmdline ?? '').split(/\s+/),
    'net.ifnames=0', // eth0, eth1, … as MachineAddress.device promises
    `systemd.machine_id=${identity.machineId}`,
    `systemd.hostname=${machine.hostname}`,
  ];
  return {
    binary: qemuProgram,
    name: `${context.projectName}/${machine.name}`,
    processName: `tsv-${machine.name}`,
    uuid: asUuid(identity.machineId),
    cpus: machine.cpus,
    mostCpus: placesForCpus(machine.cpus),
    memoryBytes: machine.memoryBytes,
    ...(box.kernel === undefined
      ? {}
      : {
          boot: {
            kernel: box.kernel,
            ...(box.initrd === undefined ? {} : { initrd: box.initrd }),
            cmdline: [...new Set(words)].join(' ').trim(),
          },
        }),
    disks: [
      { path: files.disk, format: 'qcow2' as const },
      ...machine.disks.map((disk) => ({ path: files.dataDisk(disk), format: 'qcow2' as const, serial: disk.name })),
    ],
    consoleSocket: files.consoleSocket,
    qmpSocket: files.qmpSocket,
  };
}

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
