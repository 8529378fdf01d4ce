/**
 * config.json of a bundle: the OCI runtime specification 1.2, config.md, config-linux.md. Names are those of the
 * specification; what it does not say about Linux is not here.
 */
export interface OciConfig {
  readonly ociVersion: string;
  readonly root?: { readonly path: string; readonly readonly?: boolean };
  readonly mounts?: readonly OciMount[];
  /** Needed by `start`, not by `create`. */
  readonly process?: OciProcess;
  readonly hostname?: string;
  readonly domainname?: string;
  readonly hooks?: OciHooks;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: OciLinux;
}

export interface OciMount {
  /** Absolute, inside the container; relative ones (allowed before 1.2, deprecated since) are taken from its root. */
  readonly destination: string;
  readonly type?: string;
  readonly source?: string;
  readonly options?: readonly string[];
  readonly uidMappings?: readonly OciIdMapping[];
  readonly gidMappings?: readonly OciIdMapping[];
}

export interface OciIdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}

export interface OciProcess {
  readonly terminal?: boolean;
  readonly consoleSize?: { readonly height: number; readonly width: number };
  readonly user?: OciUser;
  readonly args: readonly string[];
  readonly env?: readonly string[];
  readonly cwd: string;
  readonly rlimits?: readonly OciRlimit[];
  readonly oomScoreAdj?: number;
  readonly capabilities?: OciCapabilities;
  readonly noNewPrivileges?: boolean;
  readonly apparmorProfile?: string;
  readonly selinuxLabel?: string;
  readonly scheduler?: OciScheduler;
  readonly ioPriority?: { readonly class: string; readonly priority?: number };
  readonly execCPUAffinity?: { readonly initial?: string; readonly final?: string };
}

export interface OciUser {
  readonly uid: number;
  readonly gid: number;
  readonly umask?: number;
  readonly additionalGids?: readonly number[];
}

export interface OciRlimit {
  /** RLIMIT_NOFILE and so on, getrlimit(2). */
  readonly type: string;
  readonly soft: number;
  readonly hard: number;
}

export interface OciCapabilities {
  readonly bounding?: readonly string[];
  readonly effective?: readonly string[];
  readonly inheritable?: readonly string[];
  readonly permitted?: readonly string[];
  readonly ambient?: readonly string[];
}

export interface OciScheduler {
  readonly policy: string;
  readonly nice?: number;
  readonly priority?: number;
  readonly flags?: readonly string[];
  readonly runtime?: number;
  readonly deadline?: number;
  readonly period?: number;
}

export const hookKinds = [
  'prestart',
  'createRuntime',
  'createContainer',
  'startContainer',
  'poststart',
  'poststop',
] as const;
export type OciHookKind = (typeof hookKinds)[number];
export type OciHooks = Readonly<Partial<Record<OciHookKind, readonly OciHook[]>>>;

export interface OciHook {
  readonly path: string;
  readonly args?: readonly string[];
  readonly env?: readonly string[];
  /** Seconds. */
  readonly timeout?: number;
}

export const namespaceTypes = ['pid', 'network', 'mount', 'ipc', 'uts', 'user', 'cgroup', 'time'] as const;
export type OciNamespaceType = (typeof namespaceTypes)[number];

export interface OciNamespace {
  readonly type: OciNamespaceType;
  /** Joined; without one, a new namespace is made. */
  readonly path?: string;
}

export interface OciLinux {
  readonly namespaces?: readonly OciNamespace[];
  readonly uidMappings?: readonly OciIdMapping[];
  readonly gidMappings?: readonly OciIdMapping[];
  readonly timeOffsets?: Readonly<
    Partial<Record<'monotonic' | 'boottime', { readonly secs?: number; readonly nanosecs?: number }>>
  >;
  readonly devices?: readonly OciDevice[];
  readonly cgroupsPath?: string;
  readonly resources?: OciResources;
  readonly rootfsPropagation?: 'shared' | 'slave' | 'private' | 'unbindable';
  readonly seccomp?: OciSeccomp;
  readonly sysctl?: Readonly<Record<string, string>>;
  readonly maskedPaths?: readonly string[];
  readonly readonlyPaths?: readonly string[];
  readonly mountLabel?: string;
  readonly intelRdt?: Readonly<Record<string, unknown>>;
  readonly personality?: { readonly domain: string; readonly flags?: readonly string[] };
}

export interface OciDevice {
  /** b, c, u or p, as in mknod(1). */
  readonly type: string;
  readonly path: string;
  readonly major?: number;
  readonly minor?: number;
  readonly fileMode?: number;
  readonly uid?: number;
  readonly gid?: number;
}

export interface OciResources {
  readonly devices?: readonly OciDeviceRule[];
  readonly memory?: {
    /** Bytes; -1: no limit. */
    readonly limit?: number;
    readonly reservation?: number;
    /** Memory and swap together, bytes. */
    readonly swap?: number;
    readonly kernel?: number;
    readonly kernelTCP?: number;
    readonly swappiness?: number;
    readonly disableOOMKiller?: boolean;
    readonly useHierarchy?: boolean;
    readonly checkBeforeUpdate?: boolean;
  };
  readonly cpu?: {
    readonly shares?: number;
    /** Microseconds of CPU time in each period; -1: no limit. */
    readonly quota?: number;
    readonly burst?: number;
    readonly period?: number;
    readonly realtimeRuntime?: number;
    readonly realtimePeriod?: number;
    readonly cpus?: string;
    readonly mems?: string;
    readonly idle?: number;
  };
  readonly pids?: { readonly limit?: number };
  readonly blockIO?: {
    readonly weight?: number;
    readonly leafWeight?: number;
    readonly weightDevice?: readonly {
      readonly major: number;
      readonly minor: number;
      readonly weight?: number;
      readonly leafWeight?: number;
    }[];
    readonly throttleReadBpsDevice?: readonly OciThrottle[];
    readonly throttleWriteBpsDevice?: readonly OciThrottle[];
    readonly throttleReadIOPSDevice?: readonly OciThrottle[];
    readonly throttleWriteIOPSDevice?: readonly OciThrottle[];
  };
  readonly hugepageLimits?: readonly { readonly pageSize: string; readonly limit: number }[];
  readonly network?: {
    readonly classID?: number;
    readonly priorities?: readonly { readonly name: string; readonly priority: number }[];
  };
  readonly rdma?: Readonly<Record<string, { readonly hcaHandles?: number; readonly hcaObjects?: number }>>;
  /** Files of cgroup v2 and what is written to them. */
  readonly unified?: Readonly<Record<string, string>>;
}

export interface OciThrottle {
  readonly major: number;
  readonly minor: number;
  readonly rate: number;
}

export interface OciDeviceRule {
  readonly allow: boolean;
  /** a, c or b; absent is a. */
  readonly type?: string;
  /** Absent, or -1: any. */
  readonly major?: number;
  readonly minor?: number;
  /** Of r, w and m; absent is all. */
  readonly access?: string;
}

export interface OciSeccomp {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly listenerPath?: string;
  readonly listenerMetadata?: string;
  readonly syscalls?: readonly OciSyscallRule[];
}

export interface OciSyscallRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: number;
    readonly valueTwo?: number;
    readonly op: string;
  }[];
}

/** What `state` prints, and what hooks read: runtime.md, "State". */
export interface OciState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: 'creating' | 'created' | 'running' | 'stopped';
  /** Absent when nothing runs (any more). */
  readonly pid?: number;
  readonly bundle: string;
  readonly annotations?: Readonly<Record<string, string>>;
}
