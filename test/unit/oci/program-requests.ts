import { expect } from 'vitest';
import type { Cgroup } from '../../../src/cgroup/index.ts';
import type { CreateProgram } from '../../../src/oci/create-program.ts';
import { defaultSpec } from '../../../src/oci/default-spec.ts';
import { containerDevices, devicePlaces } from '../../../src/oci/devices.ts';
import { bindPlace } from '../../../src/oci/mounts.ts';
import { namespacePlace, planNamespaces } from '../../../src/oci/namespaces.ts';
import { places } from '../../../src/oci/paths.ts';
import { type MountHost, planMounts } from '../../../src/oci/plan-mounts.ts';
import type { OciConfig, OciMount } from '../../../src/oci/spec.ts';
import { terminalPlaces } from '../../../src/oci/terminal.ts';
import { type CallStep, printProgram, type Step } from '../../../src/sys/program.ts';

/* Requests for programs as createContainer makes them, with nothing of this host in them but this folder and file. */

export const allCapabilities = 2n ** 64n - 1n;
export const here = import.meta.dirname;
export const thisFile = import.meta.filename;

export const cgroup1: Cgroup = {
  explicit: false,
  members: [
    { name: 'cpu,cpuacct', version: 1, folder: '/sys/fs/cgroup/cpu,cpuacct/c', controllers: ['cpu', 'cpuacct'] },
    { name: 'name=systemd', version: 1, folder: '/sys/fs/cgroup/systemd/c', controllers: [] },
  ],
} as unknown as Cgroup;
export const cgroup2: Cgroup = {
  explicit: false,
  members: [{ name: 'unified', version: 2, folder: here, controllers: ['memory', 'pids'] }],
} as unknown as Cgroup;

export const mountHost = (change: Partial<MountHost> = {}): MountHost => ({
  bundle: here,
  rootfs: undefined,
  cgroup: cgroup2,
  ownCgroupNamespace: true,
  idmap: () => undefined,
  idmapOptional: false,
  ...change,
});

export const plan = (mounts: readonly OciMount[], host: Partial<MountHost> = {}) =>
  planMounts({ ociVersion: '1.2.0', mounts }, mountHost(host));

export interface Change extends Partial<CreateProgram> {
  readonly host?: Partial<MountHost>;
}

/** What createContainer asks for, privileged and with two cgroups unless changed. */
export function requestFor(config: OciConfig, { host = {}, ...change }: Change = {}): CreateProgram {
  const namespaces = planNamespaces(config);
  const ownCgroupNamespace = config.linux?.namespaces?.some(({ type }) => type === 'cgroup') ?? false;
  return {
    config,
    rootfs: '/bundle/rootfs',
    cgroups: 2,
    namespaces,
    ownedNamespaces: new Set(),
    mounts: planMounts(config, mountHost({ ownCgroupNamespace, ...host })),
    devices: containerDevices(config),
    privileged: true,
    deviceSource: !namespaces.user ? 'make' : change.privileged === false ? 'host' : 'bring',
    hostIds: () => ({ uid: 100_000, gid: 100_000 }),
    files: {},
    lastCapability: 40,
    bounding: allCapabilities,
    groups: 'must',
    ownStdio: [],
    gate: 'pipe',
    init: false,
    preserved: 0,
    noPivot: false,
    ...(config.process?.terminal === true ? { terminal: { console: true, devConsole: true } } : {}),
    ...change,
  };
}

/** Names of the descriptors that createContainer gives a program. */
export function descriptorsOf(request: CreateProgram): Set<string> {
  return new Set([
    ...['status', 'go', 'stdin', 'stdout', 'stderr'],
    ...Array.from({ length: request.cgroups }, (_, i) => `cgroup${i}`),
    ...Array.from({ length: request.preserved }, (_, i) => `preserved${i}`),
    ...request.namespaces.joined.map(({ type }) => namespacePlace(type)),
    ...request.mounts.flatMap((mount, i) => (mount.kind === 'bind' ? [bindPlace(i)] : [])),
    ...request.mounts.flatMap((mount) => (mount.kind === 'bind' && mount.idmap !== undefined ? [mount.idmap] : [])),
    ...(request.deviceSource === 'bring' ? devicePlaces(request.devices) : []),
    ...Object.keys(places),
    ...(request.terminal === undefined ? [] : ['console', ...Object.keys(terminalPlaces)]),
    ...(request.init ? ['init'] : []),
    ...(request.config.linux?.timeOffsets === undefined ? [] : ['proc']),
    ...(request.gate === 'fifo' ? ['start', 'result'] : []),
  ]);
}

/** The program as text. Lengths of filters are libseccomp's. */
export const lines = (steps: readonly Step[]): string[] =>
  printProgram(steps)
    .replaceAll(here, '/here')
    .replace(/^(seccomp \d+ \d+) \{.*?\}/gm, '$1 {…}')
    .split('\n');

/** Every call of a program, also of what is tried only. */
export function calls(steps: readonly Step[]): CallStep[] {
  return steps.flatMap((step) => {
    if ('call' in step) return [step];
    if ('try' in step) return [step.try, ...calls(step.steps), ...calls(step.otherwise ?? [])];
    if ('fork' in step) return calls(step.parent);
    return 'jump' in step ? calls(step.jump) : [];
  });
}

/** How many of the lines have an indentation of none: those that do not depend on another. */
export const index = (text: readonly string[], pattern: RegExp): number => {
  const found = text.findIndex((line) => pattern.test(line));
  expect(found, String(pattern)).toBeGreaterThanOrEqual(0);
  return found;
};
export const lastIndex = (text: readonly string[], pattern: RegExp): number =>
  text.length - 1 - index([...text].reverse(), pattern);

/** That what these patterns find comes in this order: each one's first line. */
export function expectOrder(text: readonly string[], ...patterns: readonly RegExp[]): void {
  const found = patterns.map((pattern) => index(text, pattern));
  expect(found, patterns.join(' then ')).toEqual([...found].sort((a, b) => a - b));
}

export const minimal = (change: Partial<OciConfig> = {}): OciConfig => ({
  ociVersion: '1.2.0',
  root: { path: 'rootfs' },
  process: { args: ['/bin/true'], cwd: '/', env: [] },
  ...change,
  linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }], ...change.linux },
});

/** What Docker gives its runtime for `docker run -it=false -v …:/data:ro --cap-add …`, in short. */
export function dockerLike(): OciConfig {
  const capabilities = ['CAP_CHOWN', 'CAP_SETGID', 'CAP_SETUID', 'CAP_SETPCAP', 'CAP_NET_BIND_SERVICE'];
  const still = ['nosuid', 'noexec', 'nodev'];
  const bind = (destination: string, source: string, ...options: string[]): OciMount => ({
    destination,
    source,
    type: 'bind',
    options: ['rbind', ...options],
  });
  return {
    ociVersion: '1.0.2-dev',
    process: {
      user: { uid: 1000, gid: 1000, additionalGids: [10, 1000] },
      args: ['docker-entrypoint.sh', 'serve'],
      env: ['PATH=/usr/local/bin:/usr/bin', 'HOSTNAME=f00'],
      cwd: '/srv',
      capabilities: { bounding: capabilities, effective: [], permitted: [] },
      oomScoreAdj: 0,
    },
    root: { path: '/bundle/rootfs' },
    hostname: 'f00',
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: still },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755'] },
      { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'newinstance', 'gid=5'] },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...still, 'ro'] },
      { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', ...still] },
      { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: still },
      bind('/data', here, 'ro', 'rprivate'),
      bind('/etc/resolv.conf', thisFile, 'rprivate'),
    ],
    linux: {
      namespaces: [
        { type: 'mount' },
        { type: 'network', path: '/var/run/docker/netns/f00' },
        { type: 'uts' },
        { type: 'pid' },
        { type: 'ipc' },
        { type: 'cgroup' },
      ],
      sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0' },
      devices: [{ path: '/dev/fuse', type: 'c', major: 10, minor: 229, fileMode: 0o666, uid: 0, gid: 0 }],
      seccomp: {
        defaultAction: 'SCMP_ACT_ERRNO',
        architectures: ['SCMP_ARCH_X86_64'],
        syscalls: [{ names: ['read', 'write', 'execve'], action: 'SCMP_ACT_ALLOW' }],
      },
      maskedPaths: ['/proc/kcore', '/sys/firmware'],
      readonlyPaths: ['/proc/sys', '/proc/sysrq-trigger'],
    },
  };
}

export const runcSpec = (): OciConfig => defaultSpec({ rootless: false, cgroup2: true });
export const rootlessSpec = (): OciConfig => defaultSpec({ rootless: true, cgroup2: true, uid: 1000, gid: 1000 });
