/** The parts of an OCI bundle's config.json (runtime specification 1.2, config.md and config-linux.md) that are used. */
export interface OciConfig {
  readonly ociVersion: '1.2.0';
  readonly hostname: string;
  readonly root: { readonly path: string; readonly readonly: boolean };
  readonly process: {
    readonly terminal: false;
    readonly user: { readonly uid: number; readonly gid: number; readonly umask: number };
    /** Empty: the runtime's own small init. */
    readonly args: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly capabilities: {
      readonly bounding: readonly string[];
      readonly effective: readonly string[];
      readonly permitted: readonly string[];
    };
    readonly noNewPrivileges: boolean;
  };
  readonly mounts: readonly OciMount[];
  readonly linux: {
    readonly namespaces: readonly {
      readonly type: 'user' | 'mount' | 'pid' | 'network' | 'uts' | 'ipc' | 'cgroup' | 'time';
    }[];
    readonly uidMappings: readonly OciIdMapping[];
    readonly gidMappings: readonly OciIdMapping[];
    readonly cgroupsPath: string;
    readonly resources: {
      readonly memory: { readonly limit: number };
      readonly cpu: { readonly quota: number; readonly period: number };
      readonly pids: { readonly limit: number };
    };
    readonly maskedPaths: readonly string[];
    readonly readonlyPaths: readonly string[];
  };
}

export interface OciMount {
  readonly destination: string;
  readonly type: 'proc' | 'sysfs' | 'tmpfs' | 'devpts' | 'mqueue' | 'cgroup2' | 'bind';
  readonly source: string;
  readonly options: readonly string[];
}

export interface OciIdMapping {
  readonly containerID: number;
  readonly hostID: number;
  readonly size: number;
}
