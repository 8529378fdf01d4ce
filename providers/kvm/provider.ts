import { existsSync, rmSync, writeFileSync } from 'node:fs';
import type { CheckReport } from '../../src/kvm/protocol.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { Dialler, Launcher } from '../../src/model/launch.ts';
import type { Machine, VmShape } from '../../src/model/project.ts';
import type { BoxRef, ExecSession, MachineContext, Provider, StartResult } from '../../src/model/provider.ts';
import { ensureIdentity, loginKeyFile } from '../../src/ssh/identity.ts';
import { kvmTrialFile } from '../../src/state/paths.ts';
import type { Template } from '../../src/store/template/template.ts';
import { createAccelChooser } from './accel.ts';
import { adjustVm, restoreMemory } from './adjust.ts';
import { mostDataDisks, mostNics, type NicBackend } from './arguments.ts';
import { consoleSession } from './attach.ts';
import { cloneVm } from './clone.ts';
import { type ConnectSsh, connectMachine, sshPort } from './connect.ts';
import { lastLogLines, timesFile } from './console.ts';
import { ensureDataDisks } from './disk.ts';
import { machineFiles } from './files.ts';
import { awakening, connectGuest, type GuestRequest } from './guest.ts';
import { saveVmLayer } from './layer.ts';
import { createLifecycle } from './lifecycle.ts';
import { lookUp, probeHost, qemuProgram } from './probe.ts';
import { createSnapshots } from './snapshot.ts';
import { untilSystem } from './system.ts';
import { tapName } from './tap.ts';
import { BackgroundTemplates, ensureTemplate, type MakeOptions } from './template.ts';
import { errorText } from './text.ts';
import { bringForward, settle } from './warm.ts';

/** A guest that has just been loaded answers within a second or two, also emulated. */
const answerMs = 15_000;

export interface KvmOptions {
  readonly launcher: Launcher;
  /** Dials from inside the sandbox's network namespace. */
  readonly dialler: Dialler;
  readonly ssh: ConnectSsh;
  /** The per-user store: keeps templates, and the outcome of the acceleration trial. */
  readonly cacheDir: string;
  /** Uses KVM up to guests that run: `src/kvm/run.ts`. */
  readonly check: () => Promise<CheckReport>;
  /** How a machine's network card is attached; by default to the tap {@link tapName}. */
  readonly nic?: (machine: string, index: number) => NicBackend;
}

export interface KvmProvider extends Provider {
  /** The last lines of a machine's console, printable as they are, whether it runs or not. */
  consoleLines(context: MachineContext, count: number): string[];
  attach(context: MachineContext): Promise<ExecSession>;
  /** The template that such machines start from, made if there is none. @throws TSV_TEMPLATE, TSV_CANCELLED, TSV_HOST_MISSING */
  warm(
    machine: VmShape & Pick<Machine, 'accel'>,
    box: BoxRef,
    options: Omit<MakeOptions, 'background'>,
  ): Promise<Template>;
  /** Lets go of every running machine; they run on and can be adopted by another instance. */
  detach(): Promise<void>;
}

/** What `create` remembers: all that `ssh-config` and the pinning of the host key need. */
export interface KvmMemory {
  /** Private key file for `ssh -i`. */
  readonly identityFile: string;
  /** `ssh-ed25519 BASE64 COMMENT`. */
  readonly hostKey: string;
  readonly machineId: string;
}

/** Virtual machines as QEMU processes. */
export function createKvmProvider(options: KvmOptions): KvmProvider {
  const { launcher, cacheDir: store } = options;
  const accel = createAccelChooser({
    qemuBinary: lookUp(qemuProgram) ?? qemuProgram,
    cacheFile: kvmTrialFile(options.cacheDir),
    check: options.check,
  });
  const nic = options.nic ?? ((machine, index) => ({ type: 'tap', ifname: tapName(machine, index) }));
  const lifecycle = createLifecycle({ launcher, store, accel, nic });
  const templates = new BackgroundTemplates();

  return {
    kind: 'vm',

    async probe() {
      const facts = accel.facts();
      return probeHost(facts, accel.look(facts));
    },

    validate: validateMachine,

    observe: (context) => lifecycle.observe(context),
    ending: (context) => lifecycle.ending(context),

    async create(context) {
      const files = machineFiles(context);
      boxDisk(context);
      // The disk itself is made by the first start, which knows over what.
      if (!existsSync(files.disk)) writeFileSync(files.unused, '', { mode: 0o600 });
      await ensureDataDisks(files, context.machine.disks);
      const identity = ensureIdentity(files.identity, `tsv ${context.projectName}/${context.machine.name}`);
      return {
        identityFile: loginKeyFile(files.identity),
        hostKey: identity.host.publicKey,
        machineId: identity.machineId,
      } satisfies KvmMemory;
    },

    snapshots: createSnapshots(lifecycle, accel, store),
    clone: (context, copy) => cloneVm(context, store, copy),

    async start(context, signal, notice, record = async () => {}, load): Promise<StartResult> {
      return lifecycle.start(context, boxDisk(context), signal, notice, record, load);
    },

    async adjust(context, wanted, signal, notice) {
      const attachment = await lifecycle.attached(context);
      const { dialler, ssh } = options;
      const connect = () => connectMachine({ context, attachment, dialler, ssh, signal });
      await adjustVm(attachment.qmp, context.machine, wanted, { connect, signal, notice });
    },

    adopt: (context) => {
      const { process } = context;
      // A start that was cut short: it is nobody yet, and would stay so.
      if (process !== undefined && existsSync(machineFiles(context).unused))
        return void launcher.kill(process, 'SIGKILL');
      // Where the agent before was killed on the way to another. One that does not answer is told of where it is used.
      const restored = lifecycle.attached(context).then(({ qmp }) => restoreMemory(qmp, context.machine));
      restored.catch(() => {});
    },

    signal: ({ process }) => {
      if (process !== undefined) launcher.kill(process, 'SIGKILL');
    },

    async pause(context, on) {
      const { qmp } = await lifecycle.attached(context);
      await qmp.execute(on ? 'stop' : 'cont');
    },

    stop: (context, options) => lifecycle.stop(context, options),

    async destroy(context) {
      await lifecycle.stop(context, { force: true });
      const files = machineFiles(context);
      const times = timesFile(files.consoleLog);
      const logs = [files.consoleLog, `${files.consoleLog}.1`, times, `${times}.1`, files.qemuLog];
      const staging = [`${files.disk}.new`, `${files.identity}.new`];
      for (const path of [
        files.disk,
        files.disks,
        files.identity,
        files.credentials,
        files.unused,
        ...logs,
        ...staging,
      ]) {
        rmSync(path, { recursive: true, force: true });
      }
    },

    async connect(context, signal, measured) {
      const attachment = await lifecycle.attached(context);
      const { dialler, ssh } = options;
      const transport = await connectMachine({
        context,
        attachment,
        dialler,
        ssh,
        signal,
        ...(measured === undefined ? {} : { measured }),
      });
      void bringForward(machineFiles(context)).catch(() => {}); // settle does it, too
      return transport;
    },

    untilSystem,

    settle: (context) => settle(machineFiles(context)),

    consoleLines: (context, count) => lastLogLines(machineFiles(context).consoleLog, count),

    async attach(context) {
      const { console, exited } = await lifecycle.attached(context);
      return consoleSession(console, exited);
    },

    async saveLayer(context, { folder, signal }) {
      const attachment = await lifecycle.attached(context);
      await saveVmLayer(context, attachment, accel.facts(), { folder, signal });
    },

    awaken: (context) => isDone(context, awakening()),
    answers: (context) => isDone(context, [['listens', String(sshPort)]]),

    prepare({ machine, box }, log) {
      if (machine.warm === false || box.warm !== true) return;
      accel
        .choose(machine.accel, box.kernel)
        .then((chosen) => templates.make({ store, machine, box, accel: chosen.accel, facts: accel.facts() }, log))
        .catch((error: unknown) => log(errorText(error)));
    },

    async warm(machine, box, making) {
      const { accel: chosen } = await accel.choose(machine.accel, box.kernel);
      const request = { store, machine, box, accel: chosen, facts: accel.facts() };
      return ensureTemplate(request, { ...making, background: false });
    },

    async detach() {
      await Promise.all([templates.close(), lifecycle.detachAll()]);
    },
  };
}

/** Has a guest's own program do what is asked. false: it has ended, or is busy, or could not. There are other ways. */
async function isDone(context: MachineContext, requests: readonly GuestRequest[]): Promise<boolean> {
  if (context.box.warm !== true) return false;
  try {
    const guest = await connectGuest(machineFiles(context).guestSocket);
    await guest.ask(requests, answerMs).finally(() => guest.close());
    return true;
  } catch {
    return false;
  }
}

/** Pure. */
function validateMachine(machine: Machine): string[] {
  const problems: string[] = [];
  if (machine.networks.length === 0) problems.push('a virtual machine needs a network: it is reached over SSH');
  if (!Number.isInteger(machine.cpus) || machine.cpus < 1)
    problems.push(`cpus: ${machine.cpus} is not a whole number of virtual CPUs`);
  if (machine.shares.length > 0) problems.push('shared folders are only possible with containers');
  if (machine.command !== undefined) problems.push('command: a virtual machine starts its own init');
  if (machine.networks.length > mostNics) problems.push(`networks: a virtual machine has room for ${mostNics}`);
  if (machine.disks.length > mostDataDisks) problems.push(`disks: a virtual machine has room for ${mostDataDisks}`);
  if (machine.memoryBytes < 64 * 1024 * 1024) problems.push('memory: a virtual machine needs 64M or more');
  return problems;
}

function boxDisk(context: MachineContext): NonNullable<MachineContext['box']['disk']> {
  const { box, machine } = context;
  if (box.disk !== undefined) return box.disk;
  throw new TsvError('TSV_UNSUPPORTED', `box ${box.name} has no disk, so ${machine.name} cannot be a virtual machine`, {
    hint: 'use a box with a disk, or make the machine a container with image:',
  });
}
