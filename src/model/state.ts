import type { Machine, Network } from './project.ts';
import type { Snapshot } from './snapshot.ts';

/** A process that stays recognisable: the pid alone may be somebody else's after a while. */
export interface ProcessRef {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat: clock ticks after boot. */
  readonly startTime: string;
  /** /proc/sys/kernel/random/boot_id, so that a reboot makes every reference stale. */
  readonly bootId: string;
}

/** `.ts-vm/state.json`: all that is needed to find, use and destroy what exists, without the Tsfile. */
export interface State {
  readonly version: 1;
  /** Grows by one with every write. */
  readonly serial: number;
  /** Random, made once per project folder. */
  readonly projectId: string;
  readonly projectDir: string;
  readonly projectName: string;
  /** `Project.digest` of the last `up`. */
  readonly tsfileDigest: string;
  readonly sandbox?: SandboxState;
  readonly networks: Readonly<Record<string, NetworkState>>;
  readonly machines: Readonly<Record<string, MachineState>>;
  /** Absent: none. */
  readonly volumes?: Readonly<Record<string, VolumeState>>;
}

/** A volume whose folder is there, or is made by the next container that starts with it. */
export interface VolumeState {
  /** It stays when the project is destroyed. */
  readonly keep: boolean;
  /** The Tsfile no longer has it; it waits for `destroy`. */
  readonly left?: boolean;
}

export interface SandboxState {
  readonly holder: ProcessRef;
  /** Whether the agent of this sandbox has the host's root rights. */
  readonly rooted: boolean;
  readonly dnsmasq?: ProcessRef;
  readonly uplink?: ProcessRef;
}

export interface NetworkState {
  readonly spec: Network;
  /** CIDR, chosen or given. */
  readonly subnet: string;
  /** The bridge's own address: gateway and DNS server of its machines. */
  readonly gateway: string;
  /** Interface name of the bridge in the sandbox. */
  readonly bridge: string;
}

export interface MachineAddress {
  readonly network: string;
  readonly address: string;
  readonly mac: string;
  /** Interface name inside the machine: eth0, eth1, … in the order of the Tsfile. */
  readonly device: string;
}

export interface MachineState {
  readonly spec: Machine;
  /** Digest of the box that the machine was made from. */
  readonly boxDigest: string;
  readonly addresses: readonly MachineAddress[];
  readonly createdAt: string;
  /** The VM's QEMU or the container's PID 1, from start until a stop that was asked for. */
  readonly process?: ProcessRef;
  /** The sandbox's holder at that start: in another sandbox the machine has no network. */
  readonly holder?: ProcessRef;
  readonly startedAt?: string;
  /** Set once the machine could be reached after its last start. */
  readonly ready: boolean;
  /** How the last run ended that was not asked to end; until the next start by a command. */
  readonly ended?: Ending;
  /** How often it was restarted since then, by its restart policy. */
  readonly restarts?: number;
  readonly health?: Health;
  /** All its processes are frozen; of a VM: its CPUs are stopped. */
  readonly paused?: boolean;
  /** VMs: what this run can have without another start; absent: what it has is all that it can have. */
  readonly most?: RunLimits;
  /** VMs: how its last start went: from a template's memory, or through its boot. Absent: through its boot. */
  readonly boot?: 'warm' | 'cold';
  /** VMs: what it runs on and why, e.g. `{accel: 'tcg', reason: '/dev/kvm: …'}`. */
  readonly accel?: { readonly accel: 'kvm' | 'tcg'; readonly reason: string };
  /** Steps that succeeded, by step name. */
  readonly steps: Readonly<Record<string, { readonly fingerprint: string; readonly doneAt: string }>>;
  /** Layers of the provision cache that it was made from, by their names in the store, the uppermost first. Absent: none. */
  readonly layers?: readonly string[];
  /** By `suspend`, which ended it: what it goes on with. */
  readonly suspended?: Suspended;
  /** It stands still while it is saved under this tag. */
  readonly saving?: string;
  /** The snapshot that it is being set back to: half of it may be there. */
  readonly restoring?: string;
  /** The clock in it is that of a snapshot, until it can be set. */
  readonly behind?: true;
  /** A rename has begun: its folder may still have this name; see agent/rename.ts. */
  readonly movingFrom?: string;
  /** A copy of another machine that is not in its place yet, under this tag; see agent/clone.ts. */
  readonly cloning?: string;
  /** What the provider's own `create` or `start` wants to find again. Plain JSON. */
  readonly provider: Readonly<Record<string, unknown>>;
}

export interface Suspended {
  /** ISO 8601. */
  readonly at: string;
  /** Its memory is on its disk; else it was halted, and is started again. */
  readonly memory: boolean;
  /** See {@link SavedPart}. */
  readonly provider: Readonly<Record<string, unknown>>;
}

export interface RunLimits {
  /** What its memory began with; absent: that is all that it can have, and it gives none back. */
  readonly memoryBytes?: number;
  /** Places for virtual CPUs, taken or not. */
  readonly cpus: number;
}

/** How a machine's last run ended. */
export interface Ending {
  /** ISO 8601. */
  readonly at: string;
  /**
   * `exited`: by itself; of a VM: its system powered off. `killed`: by a signal. `oom`: the kernel found no memory for it.
   * `panicked`: of a VM: its kernel; `detail` has its words. `lost`: nobody was there to see how, as after a crash of the host.
   */
  readonly why: 'exited' | 'killed' | 'oom' | 'panicked' | 'lost';
  /** Exit status of PID 1, of a VM: of QEMU. Absent where a signal ended it, or nobody saw it. */
  readonly code?: number;
  /** Without SIG: `KILL`. */
  readonly signal?: string;
  /** Where it is known: who sent the signal, what failed. */
  readonly detail?: string;
}

/** What its health check says of a machine that runs. Written when it changes, not at every check. */
export interface Health {
  readonly status: 'starting' | 'healthy' | 'unhealthy';
  /** ISO 8601. */
  readonly since: string;
  /** Of the check that made it unhealthy: how it failed, and the end of what it printed. */
  readonly reason?: string;
}

/** What is really there. An impossible combination does not type-check. */
export type Observed =
  | { readonly state: 'absent' }
  | {
      readonly state: 'stopped';
      /** It should run: it ended without being asked. */
      readonly unexpectedly: boolean;
      /** How, if it ended by itself. */
      readonly ended?: Ending;
    }
  | { readonly state: 'running'; readonly process: ProcessRef }
  | { readonly state: 'broken'; readonly reasons: readonly string[] };

/** One look at a project: its state file and reality, taken together. */
export interface Observation {
  readonly state: State | undefined;
  /** For every machine in the state. */
  readonly machines: Readonly<Record<string, Observed>>;
  /** The holder is alive; without it no machine can be used. */
  readonly sandboxAlive: boolean;
  /** DNS and the way out run. Meaningless when the sandbox is not alive. */
  readonly servicesAlive: boolean;
  /** Absent: none. Read when they are asked for. @throws TSV_STATE_CORRUPT, TSV_STATE_UNSAFE */
  readonly snapshots?: readonly Snapshot[];
}
