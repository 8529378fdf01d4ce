import { rmSync } from 'node:fs';
import type { CheckReport } from '../../src/kvm/protocol.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { Dialler, Launcher } from '../../src/model/launch.ts';
import type { Machine } from '../../src/model/project.ts';
import type { ExecSession, MachineContext, Provider, StartResult } from '../../src/model/provider.ts';
import { ensureIdentity, loginKeyFile } from '../../src/ssh/identity.ts';
import { kvmTrialFile } from '../../src/state/paths.ts';
import { createAccelChooser } from './accel.ts';
import { adjustVm, restoreMemory } from './adjust.ts';
import type { NicBackend } from './arguments.ts';
import { consoleSession } from './attach.ts';
import { type ConnectSsh, connectMachine } from './connect.ts';
import { lastLogLines, timesFile } from './console.ts';
import { ensureDataDisks, ensureOverlay } from './disk.ts';
import { machineFiles } from './files.ts';
import { createLifecycle } from './lifecycle.ts';
import { lookUp, probeHost, qemuProgram } from './probe.ts';
import { createSnapshots } from './snapshot.ts';
import { tapName } from './tap.ts';

export interface KvmOptions {
  readonly launcher: Launcher;
  /** Dials from inside the sandbox's network namespace. */
  readonly dialler: Dialler;
  readonly ssh: ConnectSsh;
  /** A folder of the per-user store: keeps the outcome of the acceleration trial. */
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
  const { launcher } = options;
  const accel = createAccelChooser({
    qemuBinary: lookUp(qemuProgram) ?? qemuProgram,
    cacheFile: kvmTrialFile(options.cacheDir),
    check: options.check,
  });
  const nic = options.nic ?? ((machine, index) => ({ type: 'tap', ifname: tapName(machine, index) }));
  const lifecycle = createLifecycle({ launcher, accel, nic });

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
      await ensureOverlay(files, boxDisk(context));
      await ensureDataDisks(files, context.machine.disks);
      const identity = ensureIdentity(files.identity, `tsv ${context.projectName}/${context.machine.name}`);
      return {
        identityFile: loginKeyFile(files.identity),
        hostKey: identity.host.publicKey,
        machineId: identity.machineId,
      } satisfies KvmMemory;
    },

    snapshots: createSnapshots(lifecycle, accel),

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
      for (const path of [files.disk, files.disks, files.identity, files.credentials, ...logs, ...staging]) {
        rmSync(path, { recursive: true, force: true });
      }
    },

    async connect(context, signal) {
      const attachment = await lifecycle.attached(context);
      return connectMachine({ context, attachment, dialler: options.dialler, ssh: options.ssh, signal });
    },

    consoleLines: (context, count) => lastLogLines(machineFiles(context).consoleLog, count),

    async attach(context) {
      const { console, exited } = await lifecycle.attached(context);
      return consoleSession(console, exited);
    },

    detach: () => lifecycle.detachAll(),
  };
}

/** Pure. */
function validateMachine(machine: Machine): string[] {
  const problems: string[] = [];
  if (machine.networks.length === 0) problems.push('a virtual machine needs a network: it is reached over SSH');
  if (!Number.isInteger(machine.cpus) || machine.cpus < 1)
    problems.push(`cpus: ${machine.cpus} is not a whole number of virtual CPUs`);
  if (machine.shares.length > 0) problems.push('shared folders are only possible with containers');
  if (machine.command !== undefined) problems.push('command: a virtual machine starts its own init');
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
