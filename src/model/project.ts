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

export type MachineKind = 'vm' | 'container';

export interface Machine {
  /** Unique; a DNS label. */
  readonly name: string;
  /** The name in the Tsfile; differs from `name` only for replicas. */
  readonly group: string;
  readonly kind: MachineKind;
  /** Name of the box that gives the disk (vm) or the root file system (container). */
  readonly box: string;
  readonly hostname: string;
  readonly memoryBytes: number;
  /** vCPUs of a VM (a whole number); CPU limit of a container (may be a fraction). */
  readonly cpus: number;
  /** Containers only: most processes at once. */
  readonly pids: number;
  /** Containers only: PID 1's argv. Absent: a small init that reaps. */
  readonly command?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly networks: readonly Attachment[];
  readonly forwards: readonly Forward[];
  readonly shares: readonly Share[];
  /** VMs only: further disks, kept until `destroy`. */
  readonly disks: readonly Disk[];
  /** Machine names (replica groups already expanded). */
  readonly dependsOn: readonly Dependency[];
  readonly healthcheck?: Healthcheck;
  readonly provision: readonly ProvisionStep[];
  /** How long a machine may take until it can be reached, and to power off. */
  readonly bootTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** VMs only. */
  readonly accel: 'auto' | 'kvm' | 'tcg';
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
}

export interface Disk {
  readonly name: string;
  readonly sizeBytes: number;
}

export interface Dependency {
  readonly machine: string;
  readonly condition: 'started' | 'healthy';
}

export interface Healthcheck {
  readonly exec: readonly string[];
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
