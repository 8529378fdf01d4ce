import { closeSync, existsSync, mkdirSync, openSync, rmSync } from 'node:fs';
import { release } from 'node:os';
import { TsvError } from '../../src/model/errors.ts';
import type { Launcher } from '../../src/model/launch.ts';
import type { Load, MachineContext, StartResult } from '../../src/model/provider.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import { readIdentity } from '../../src/ssh/identity.ts';
import { withStore } from '../../src/store/image/with-store.ts';
import type { Template } from '../../src/store/template/template.ts';
import { givesUsers, takeUser } from '../../src/sys/own-user.ts';
import { syncFolder } from '../../src/sys/sync-folder.ts';
import { unlessAborted } from '../../src/sys/unless-aborted.ts';
import type { Accel, AccelChooser } from './accel.ts';
import { mostOf } from './adjust.ts';
import { type NicBackend, qemuArguments } from './arguments.ts';
import type { Attachment } from './attachment.ts';
import { beginLog, lastLogLines } from './console.ts';
import { credentials, identityFiles, writeCredentials } from './credentials.ts';
import { type BoxDisk, checkBoxDisk, checkDataDisk, checkOverlay, makeOverlay } from './disk.ts';
import { type MachineFiles, machineFiles, runFiles } from './files.ts';
import { bootFiles, jailed, memoryPath, openedTaps, qemuJail } from './jail.ts';
import { asObject, type Qmp, runState } from './qmp.ts';
import { loadMemory, notLoaded, type Shape, shapeIn } from './snapshot.ts';
import { machineSpec } from './spec.ts';
import { errorText } from './text.ts';
import { goOn, isWarmable, takeLayer, takeTemplate } from './warm.ts';

/** From the launch until QEMU's sockets answer: it reads firmware, kernel and initrd first, maybe from a busy disk. */
const launchMs = 60_000;

export interface StartParts {
  readonly launcher: Launcher;
  /** The per-user store, which has the templates. */
  readonly store: string;
  readonly accel: AccelChooser;
  readonly nic: (machine: string, index: number) => NicBackend;
  find(context: MachineContext, files: MachineFiles): ProcessRef | undefined;
  hold(
    context: MachineContext,
    process: ProcessRef,
    options: { timeoutMs: number; signal?: AbortSignal },
  ): Promise<Attachment>;
  killAndWait(process: ProcessRef): Promise<void>;
}

/** What a start goes on from, and not through a boot. */
interface StartFrom {
  readonly template?: Template;
  /** The disk that its own is to lie over; absent: the template's, or the box's. */
  readonly base?: string;
  readonly load?: { readonly tag: string; readonly shape: Shape };
}

/** Starts QEMU: from a template, from a memory that was saved, or through a boot. */
export function createStart({ launcher, store, accel, nic, find, hold, killAndWait }: StartParts) {
  /** Whether io_uring is used: until QEMU says that it cannot have one, where a host forbids it or QEMU was built without. */
  let ring = hasGoodRings(release());

  const launch = async (
    context: MachineContext,
    boxDisk: BoxDisk,
    accelName: 'kvm' | 'tcg',
    { template, base, load }: StartFrom,
    withRing: boolean,
  ): Promise<ProcessRef> => {
    const files = machineFiles(context);
    const identity = readIdentity(files.identity);
    checkBoxDisk(boxDisk);
    if (existsSync(files.unused)) await makeOverlay(files, boxDisk, store, base ?? template?.disk);
    const bases = checkOverlay(files.disk, boxDisk, store);
    for (const disk of context.machine.disks) checkDataDisk(files.dataDisk(disk));
    mkdirSync(files.runDir, { recursive: true, mode: 0o700 });
    for (const stale of [...runFiles(files), files.qemuLog]) rmSync(stale, { force: true });
    beginLog(files.consoleLog);
    const resolver = {
      search: context.projectName,
      nameServers: context.addresses.flatMap(({ network }) => context.networks[network]?.gateway ?? []),
    };
    const own = identityFiles(identity, context.box.user, context.machine.hostname, resolver);
    const smbiosStrings = writeCredentials(files.credentials, credentials(own));
    const devices = template === undefined ? undefined : openSync(template.devices, 'r');
    const user = givesUsers() ? takeUser(context.dir) : undefined;
    const wanted = context.addresses.map((_, index) => nic(context.machine.name, index));
    const { taps, nics } = user === undefined ? { taps: [], nics: wanted } : openedTaps(wanted);
    const memory = user === undefined ? template?.memory : memoryPath;
    try {
      const argv = qemuArguments({
        ...machineSpec(context, files, identity, {
          accel: accelName,
          // What is kept of it is to be gone on from, as a template is: without one.
          balloon: load?.shape.balloon ?? (template === undefined && context.machine.cache !== true),
          incoming: template !== undefined,
          ring: withRing,
          nics: context.addresses.flatMap(({ mac }, index) =>
            nics.slice(index, index + 1).map((backend) => ({ mac, backend })),
          ),
          smbiosStrings,
          ...(template === undefined || memory === undefined ? {} : { memoryFile: { path: memory, shared: false } }),
        }),
        ...(load === undefined ? {} : shapeSpec(load.shape)),
      });
      return await launcher.launch({
        ...{ argv, net: 'sandbox', logFile: files.qemuLog, exitDir: context.dir, cwd: '/' },
        ...{ fds: devices === undefined ? [] : [devices], taps },
        ...(user === undefined
          ? {}
          : jailed(
              qemuJail(user.uid, {
                root: files.runDir,
                own: [files.disk, ...context.machine.disks.map((disk) => files.dataDisk(disk))],
                folders: [files.runDir],
                secrets: smbiosStrings,
                shared: [...bases, ...bootFiles(context.box)],
                ...(template === undefined ? {} : { memory: template.memory }),
                accel: accelName,
              }),
            )),
      });
    } finally {
      if (devices !== undefined) closeSync(devices);
      user?.release();
    }
  };

  /** Launches, and lets its CPUs go. What fails leaves no process. */
  const begin = async (
    context: MachineContext,
    boxDisk: BoxDisk,
    chosen: Accel,
    from: StartFrom,
    options: { signal: AbortSignal; record: (process: ProcessRef) => Promise<void> },
    withRing = ring,
  ): Promise<StartResult> => {
    const { signal, record } = options;
    const { template, load } = from;
    const files = machineFiles(context);
    let process: ProcessRef | undefined;
    try {
      process = await launch(context, boxDisk, chosen.accel, from, withRing);
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
        await loadMemory(context, qmp, load.tag, load.shape).catch((error: unknown) => {
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
      const said = lastLogLines(files.qemuLog, 8);
      if (!withRing || signal.aborted || !said.some((line) => line.includes('io_uring'))) throw error;
      ring = false;
      return begin(context, boxDisk, chosen, from, options, false);
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
    if ((await runState(qmp)) === 'prelaunch') await qmp.execute('cont');
    return { process, accel: await reportedAccel(qmp), most };
  };

  return async (
    context: MachineContext,
    boxDisk: BoxDisk,
    signal: AbortSignal,
    notice: (text: string) => void,
    record: (process: ProcessRef) => Promise<void>,
    load?: Load,
  ): Promise<StartResult> => {
    const shape = load === undefined ? undefined : shapeIn(load.provider);
    const files = machineFiles(context);
    const { machine } = context;
    const { name } = machine;
    const failed = (error: unknown): TsvError => (signal.aborted ? cancelled(name) : startFailure(name, files, error));
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
    const last = (from: StartFrom) => attempt(from).catch((error: unknown) => Promise.reject(failed(error)));
    /** Without a boot; undefined, after it was said why: not so. */
    const warmly = async (template: Template | string): Promise<StartResult | undefined> => {
      const why = typeof template === 'string' ? template : await attempt({ template }).catch(errorText);
      if (typeof why !== 'string') return why;
      if (signal.aborted) throw cancelled(name);
      if (machine.warm !== false) notice(`${name} boots cold: ${why.split('\n')[0]}`);
      return undefined;
    };
    if (load !== undefined && shape !== undefined) return last({ load: { tag: load.tag, shape } });
    const { kept } = context.box;
    if (kept !== undefined && existsSync(files.unused)) {
      const { layer, goesOn } = await takeLayer(context, kept, chosen.accel, accel.facts());
      return (await warmly(goesOn ? layer : notItsMemory)) ?? last({ base: layer.disk });
    }
    if (!isWarmable(context, files)) return last({});
    // Until its own disk lies over the template's, whoever removes from the store cannot tell that it is used.
    const started = await withStore(store, 'shared', { signal, progress: notice }, async () =>
      warmly(await takeTemplate(context, chosen.accel, { store, facts: accel.facts() })),
    );
    return started ?? last({});
  };
}

/**
 * Of Linux 6.1 and later, which keep no account of their memory against RLIMIT_MEMLOCK, and whose early faults are mended.
 * `6.1.0-56-cloud-amd64`.
 */
export function hasGoodRings(kernelRelease: string): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.', 2).map((part) => Number.parseInt(part, 10));
  return major > 6 || (major === 6 && minor >= 1);
}

const notItsMemory =
  'the memory that was kept with its files is of a machine with other CPUs or memory, or of another QEMU';

const shapeSpec = ({ machineType, bootCpus, mostCpus, memoryBytes }: Shape) => ({
  machineType,
  cpus: bootCpus,
  mostCpus,
  memoryBytes,
});

/** What a QEMU that somebody else started runs on. */
async function reportedAccel(qmp: Qmp): Promise<{ accel: 'kvm' | 'tcg'; reason: string }> {
  const enabled = asObject(await qmp.execute('query-kvm')).enabled === true;
  return { accel: enabled ? 'kvm' : 'tcg', reason: 'as QEMU says; it was running already' };
}

const cancelled = (name: string): TsvError =>
  new TsvError('TSV_CANCELLED', `starting ${name} was interrupted`, { exitCode: 130 });

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
