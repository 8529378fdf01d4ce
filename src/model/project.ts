import type { Digest } from './image.ts';

/** What a Tsfile says, checked, with all defaults filled in and replicas expanded. Deeply readonly and plain JSON. */
export interface Project {
  readonly name: string;
  /** Absolute path of the folder that holds the Tsfile. */
  readonly dir: string;
  /** Absolute path of the Tsfile. */
  readonly file: string;
  /** sha256 of the Tsfile's text and of the `.env` and variables it used; tells whether a status is of this text. */
  readonly digest: string;
  /** In the order of the file; `default` (nat) is added when a machine uses it and the file does not declare it. */
  readonly networks: readonly Network[];
  /** In the order of the file. Absent: none. */
  readonly volumes?: readonly Volume[];
  /** In the order of the file, replicas as `web-1`, `web-2`, … */
  readonly machines: readonly Machine[];
}

export type NetworkMode = 'nat' | 'isolated';

export interface Network {
  readonly name: string;
  readonly mode: NetworkMode;
  /** CIDR such as `10.77.1.0/24`; absent: a free one is chosen and kept in the state. */
  readonly subnet?: string;
}

/** A folder of the project for what its containers keep. */
export interface Volume {
  readonly name: string;
  /** It stays when the project is destroyed. */
  readonly keep: boolean;
}

export type MachineKind = 'vm' | 'container';

export interface Machine {
  /** Unique; a DNS label. */
  readonly name: string;
  /** The name in the Tsfile; differs from `name` only for replicas. */
  readonly group: string;
  readonly kind: MachineKind;
  /**
   * What gives the disk (vm) or the root file system (container): the name of a box or, where there is `image`, an image's
   * reference in full: `docker.io/library/nginx:1.27`.
   */
  readonly box: string;
  /** Containers only: they are made from an OCI image, which says what the Tsfile does not. */
  readonly image?: ImageUse;
  readonly hostname: string;
  readonly memoryBytes: number;
  /** vCPUs of a VM (a whole number); CPU limit of a container (may be a fraction). */
  readonly cpus: number;
  /** Containers only: most processes at once. */
  readonly pids: number;
  /** Containers only: weight among the project's containers where there is not CPU time for all; absent: {@link usualShares}. */
  readonly cpuShares?: number;
  /** Containers only: absent: no limits. */
  readonly io?: IoLimits;
  /** Containers only: what comes before `command`; it replaces the image's, and with it the image's command. */
  readonly entrypoint?: readonly string[];
  /** Containers only: PID 1's argv. Absent here and in the image: a small init that reaps. */
  readonly command?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly networks: readonly Attachment[];
  readonly forwards: readonly Forward[];
  readonly shares: readonly Share[];
  /** Containers only: volumes of the project. Absent: none. */
  readonly volumes?: readonly VolumeUse[];
  /** Kept until `destroy`. A VM finds them as devices, a container as file systems. */
  readonly disks: readonly Disk[];
  /** Machine names (replica groups already expanded). */
  readonly dependsOn: readonly Dependency[];
  readonly healthcheck?: Healthcheck;
  /** What is done when it ends without having been asked to; absent: nothing. */
  readonly restart?: Restart;
  /** It does its work and ends: ending with 0 is what is wanted of it. Absent: false. */
  readonly oneshot?: boolean;
  /** What `tsv run` runs: no Tsfile has it, and it goes with its command. Absent: false. */
  readonly oneOff?: boolean;
  readonly provision: readonly ProvisionStep[];
  /** What its steps have made is kept in the store, for the next machine with the same steps. Absent: false. */
  readonly cache?: boolean;
  /** How long a machine may take until it can be reached, and to power off. */
  readonly bootTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** VMs only. */
  readonly accel: 'auto' | 'kvm' | 'tcg';
  /** VMs only: its first start may go on from the memory of a template. Absent: it may. */
  readonly warm?: boolean;
  /** Containers only: read it with {@link isolationOf}. */
  readonly isolation?: Isolation;
}

/** What virtual machines that start from the same template have in common, beside the box. */
export type VmShape = Pick<Machine, 'memoryBytes' | 'cpus' | 'disks' | 'networks'>;

/** `cpuShares` of a container that names none. */
export const usualShares = 1024;

/** How much of the disks with the project and the boxes a container reads and writes at most; absent: any amount. */
export interface IoLimits {
  readonly readBytesPerSecond?: number;
  readonly writeBytesPerSecond?: number;
  readonly readsPerSecond?: number;
  readonly writesPerSecond?: number;
}

export interface ImageUse {
  /** Of the manifest that Tsfile.lock has for the reference; absent: it has none. */
  readonly digest?: Digest;
}

/** How a container is fenced in, and what its first process finds. Nothing in it is left to parse. */
export interface Isolation {
  /**
   * No masked and no read-only paths, and /sys can be written. What else follows from it is in `capabilities` and
   * `seccomp` already. Never the host's root.
   */
  readonly privileged: boolean;
  /**
   * Changes to the runtime's usual set, which becomes (usual + add) - drop. CAP_ names in the kernel's order, `ALL`
   * spelled out; no name is in both lists.
   */
  readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] };
  readonly seccomp: 'default' | 'unconfined' | SeccompFile;
  readonly devices: readonly Device[];
  /** Only namespaced ones, by dotted name such as `net.core.somaxconn`. */
  readonly sysctls: Readonly<Record<string, string>>;
  readonly tmpfs: readonly Tmpfs[];
  /** In alphabetical order; each name once. */
  readonly ulimits: readonly Ulimit[];
  /** Size of /dev/shm. */
  readonly shmBytes: number;
  /** The root file system. */
  readonly readOnly: boolean;
  /** Absent: the image's, else root. */
  readonly user?: ContainerUser;
  /** The small init is process 1, with the command, if there is one, as its child. Without any command there is always the init. */
  readonly init: boolean;
  /**
   * Number of the signal that asks process 1 to end; `stopTimeoutMs` later follows SIGKILL. 37 is SIGRTMIN+3. Absent: the
   * image's, else SIGTERM.
   */
  readonly stopSignal?: number;
  /** Absolute path in the container that the command starts in. Absent: the image's, else `/`. */
  readonly workdir?: string;
}

/** A seccomp profile in the form of OCI or of Docker, unread. */
export interface SeccompFile {
  /** Absolute path on the host. */
  readonly path: string;
  /** Of its content when the Tsfile was read, so that an edited profile shows in the plan. */
  readonly digest: string;
}

export interface Device {
  /** Absolute path on the host, maybe of a symbolic link. */
  readonly host: string;
  /** Absolute path in the container. */
  readonly container: string;
  /** Of r, w and m (mknod), in this order; not empty. */
  readonly access: string;
}

export interface Tmpfs {
  /** Absolute path in the container. */
  readonly path: string;
  /** Absent: the kernel's default. */
  readonly sizeBytes?: number;
  /** Octal mode, e.g. 0o755; absent: the kernel's default, 0o1777. */
  readonly mode?: number;
}

/** getrlimit(2); units are those of the limit. */
export interface Ulimit {
  /** `RLIMIT_NOFILE` and so on. */
  readonly name: string;
  /** Not above `hard`. */
  readonly soft: number | 'unlimited';
  readonly hard: number | 'unlimited';
}

/** Numbers are ids, texts are names of the container's own /etc/passwd and /etc/group. */
export interface ContainerUser {
  readonly user: number | string;
  /** Absent: the group that the container's /etc/passwd gives the user, else 0. */
  readonly group?: number | string;
}

/** A container's isolation; the defaults where nothing is said, as in the records of earlier versions. */
export function isolationOf(machine: Pick<Machine, 'isolation' | 'command'>): Isolation {
  return (
    machine.isolation ?? {
      privileged: false,
      capabilities: { add: [], drop: [] },
      seccomp: 'default',
      devices: [],
      sysctls: {},
      tmpfs: [],
      ulimits: [],
      shmBytes: 64 * 2 ** 20,
      readOnly: false,
      user: { user: 0 },
      init: machine.command === undefined,
      stopSignal: 15,
      workdir: '/',
    }
  );
}

export interface Attachment {
  readonly network: string;
  /** A fixed IPv4 address inside the network's subnet; absent: one is chosen and kept in the state. */
  readonly address?: string;
}

export interface Forward {
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

export interface Share {
  /** Absolute path on the host. */
  readonly host: string;
  /** Absolute path in the machine. */
  readonly guest: string;
  readonly readonly: boolean;
  /** Who inside is what the owner of the folder is outside; absent: the machine's user. One of the two: the owner is given. */
  readonly uid?: number;
  readonly gid?: number;
}

/** A volume of the project as one machine sees it. */
export interface VolumeUse {
  readonly name: string;
  /** Absolute path in the machine. */
  readonly guest: string;
  readonly readonly: boolean;
}

export interface Disk {
  readonly name: string;
  readonly sizeBytes: number;
  /** Containers only, and always there: absolute path in the container. */
  readonly mount?: string;
  /** Containers only: `destroy` leaves it to the next machine of this name. Absent: it does not. */
  readonly keep?: boolean;
}

export interface Dependency {
  readonly machine: string;
  readonly condition: 'started' | 'healthy' | 'completed';
}

export interface Restart {
  /** There is no daemon that would start machines with the host, so the last two differ in name only. */
  readonly when: 'on-failure' | 'always' | 'unless-stopped';
  /** At most this often in a row; absent: without end. */
  readonly most?: number;
}

/** One of `exec`, `http`, `tcp` is there. */
export interface Healthcheck {
  /** A command inside the machine; 0 is healthy. */
  readonly exec?: readonly string[];
  /** A request from the host's side to a port of the machine; 200 to 399 is healthy. */
  readonly http?: { readonly port: number; readonly path: string };
  /** A port of the machine that takes connections. */
  readonly tcp?: number;
  readonly everyMs: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
}

export type RunPolicy = 'once' | 'always' | 'never' | 'on-change';

interface StepBase {
  /** Unique within the machine: the `name`, else made from the type, file and position. */
  readonly name: string;
  readonly run: RunPolicy;
  /** sha256 of all that the step does: content, arguments, environment, user. */
  readonly fingerprint: string;
  /** Not kept in the store, nor what comes after it: the Tsfile says so, or its values may be secrets. Absent: false. */
  readonly uncached?: boolean;
}

export interface ShellStep extends StepBase {
  readonly type: 'shell';
  /** Absolute path of the script, or its text. */
  readonly script: { readonly path: string } | { readonly inline: string };
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** true: as root; false: as the box's ordinary user. */
  readonly privileged: boolean;
  /** Absolute path in the machine. */
  readonly cwd?: string;
}

export interface FileStep extends StepBase {
  readonly type: 'file';
  /** Absolute path on the host: a file or a folder. */
  readonly source: string;
  /** Absolute path in the machine. */
  readonly destination: string;
  /** Octal mode, e.g. 0o644; absent: the source's. */
  readonly mode?: number;
  /** `user` or `user:group`; absent: root. */
  readonly owner?: string;
}

export type ProvisionStep = ShellStep | FileStep;
