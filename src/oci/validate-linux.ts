import type { OciConfig, OciIdMapping, OciNamespace, OciNamespaceType } from './spec.ts';
import type { Path, Report, Rule } from './validate.ts';
import { sysctlFile, sysctlNamespace } from './validate-sysctl.ts';

const namespaceOf = ({ linux }: OciConfig, type: OciNamespaceType): OciNamespace | undefined =>
  linux?.namespaces?.find((namespace) => namespace.type === type);

/** A namespace of the runtime itself or of the host's first process, written as a path. */
const isHostPath = (path: string | undefined): boolean =>
  path !== undefined && /^\/+proc\/+(?:self|thread-self|1)\/+ns\/+[a-z_]+$/.test(path);

/** What config-linux.md asks beyond the types of the values, as far as that can be told without looking at the host. */
export const linuxRules: readonly Rule[] = [
  {
    reads: ['hostname', 'linux.namespaces'],
    check: (config, { problem }) => checkName('hostname', config, problem),
  },
  {
    reads: ['domainname', 'linux.namespaces'],
    check: (config, { problem }) => checkName('domainname', config, problem),
  },
  {
    reads: ['linux.namespaces'],
    check({ linux }, { problem }) {
      const seen = new Set<string>();
      for (const [index, { type }] of (linux?.namespaces ?? []).entries()) {
        if (seen.has(type)) problem(['linux', 'namespaces', index, 'type'], `${type} is there twice`);
        seen.add(type);
      }
    },
  },
  ...(['uidMappings', 'gidMappings'] as const).map(
    (key): Rule => ({
      reads: ['linux.namespaces', `linux.${key}`],
      check(config, { problem }) {
        const path = ['linux', key];
        const user = namespaceOf(config, 'user');
        const mappings = config.linux?.[key] ?? [];
        if (mappings.length > 0 && user === undefined) problem(path, 'needs a user namespace in linux.namespaces');
        if (mappings.length === 0 && user !== undefined && user.path === undefined)
          problem(path, 'is missing: a new user namespace needs it');
        checkMappings(path, mappings, problem);
      },
    }),
  ),
  {
    reads: ['linux.namespaces', 'linux.timeOffsets'],
    check(config, { problem }) {
      if (Object.keys(config.linux?.timeOffsets ?? {}).length === 0) return;
      const time = namespaceOf(config, 'time');
      if (time === undefined) problem(['linux', 'timeOffsets'], 'needs a time namespace in linux.namespaces');
      else if (time.path !== undefined)
        problem(['linux', 'timeOffsets'], 'cannot be set in a time namespace that is joined by path');
    },
  },
  {
    reads: ['linux.devices'],
    check({ linux }, { problem }) {
      for (const [index, device] of (linux?.devices ?? []).entries())
        for (const key of ['major', 'minor'] as const)
          if (device.type !== 'p' && device[key] === undefined)
            problem(['linux', 'devices', index, key], `is missing for a device of type ${device.type}`);
    },
  },
  {
    reads: ['linux.resources.memory'],
    check({ linux }, { problem }) {
      const swappiness = linux?.resources?.memory?.swappiness ?? 0;
      if (swappiness > 100 && swappiness !== unsetSwappiness)
        problem(['linux', 'resources', 'memory', 'swappiness'], `must be at most 100, not ${swappiness}`);
    },
  },
  {
    reads: ['linux.resources.blockIO'],
    check({ linux }, { problem }) {
      for (const [index, device] of (linux?.resources?.blockIO?.weightDevice ?? []).entries())
        if (device.weight === undefined && device.leafWeight === undefined)
          problem(['linux', 'resources', 'blockIO', 'weightDevice', index], 'needs weight or leafWeight');
    },
  },
  {
    reads: ['linux.seccomp'],
    check({ linux }, { problem, warning }) {
      const seccomp = linux?.seccomp;
      if (seccomp === undefined) return;
      const path = ['linux', 'seccomp'];
      const actions: [Path, string][] = [
        [[...path, 'defaultAction'], seccomp.defaultAction],
        ...(seccomp.syscalls ?? []).map(({ action }, index): [Path, string] => [
          [...path, 'syscalls', index, 'action'],
          action,
        ]),
      ];
      const asking = actions.filter(([, action]) => action === 'SCMP_ACT_NOTIFY');
      for (const [at] of asking) problem(at, 'a listener (SCMP_ACT_NOTIFY) is not supported');
      if (asking.length === 0 && seccomp.listenerPath !== undefined)
        warning([...path, 'listenerPath'], 'passed over: no action is SCMP_ACT_NOTIFY');
    },
  },
  {
    reads: ['linux.namespaces', 'linux.sysctl'],
    check(config, { problem }) {
      for (const [key, value] of Object.entries(config.linux?.sysctl ?? {})) {
        const message = sysctlProblem(config, key, value);
        if (message !== undefined) problem(['linux', 'sysctl', key], message);
      }
    },
  },
  ...(['maskedPaths', 'readonlyPaths'] as const).map(
    (key): Rule => ({
      reads: ['linux.namespaces', `linux.${key}`],
      check(config, { problem }) {
        if ((config.linux?.[key] ?? []).length > 0 && namespaceOf(config, 'mount') === undefined)
          problem(['linux', key], 'needs a mount namespace in linux.namespaces');
      },
    }),
  ),
  {
    reads: ['linux.intelRdt'],
    check({ linux }, { warning }) {
      if (linux?.intelRdt !== undefined) warning(['linux', 'intelRdt'], 'passed over: it is not supported');
    },
  },
];

/** 2^64 - 1 as it arrives here: what Go programs write for -1, "leave it as it is". */
export const unsetSwappiness = 2 ** 64;

/** sethostname(2), setdomainname(2). */
function checkName(key: 'hostname' | 'domainname', config: OciConfig, problem: Report): void {
  const name = config[key];
  if (name === undefined) return;
  if (namespaceOf(config, 'uts') === undefined) problem([key], 'needs a uts namespace in linux.namespaces');
  if (Buffer.byteLength(name) > 64) problem([key], 'must have at most 64 bytes');
}

function sysctlProblem(config: OciConfig, key: string, value: string): string | undefined {
  const file = sysctlFile(key);
  if (file === undefined) return 'is no name of a sysctl';
  // '+' and '=' separate settings in what other runtimes pass on, CVE-2022-0811; no value has them.
  if (/[\r\n+=]/.test(value)) return "its value must not contain a line break, '+' or '='";
  if (file === 'kernel/hostname') return 'is what `hostname` is for';
  const type = sysctlNamespace(file);
  if (type === undefined) return 'holds for the whole host, not for a namespace';
  const namespace = namespaceOf(config, type);
  if (namespace === undefined) return `needs a ${type} namespace in linux.namespaces`;
  return isHostPath(namespace.path) ? `must not be set in the host's ${type} namespace ${namespace.path}` : undefined;
}

/** user_namespaces(7): no range goes past the last id, no two ranges of one side overlap. */
export function checkMappings(path: Path, mappings: readonly OciIdMapping[], problem: Report): void {
  for (const side of ['containerID', 'hostID'] as const) {
    const ranges = mappings.map((mapping, index) => ({
      index,
      start: mapping[side],
      end: mapping[side] + mapping.size,
    }));
    for (const { index, end } of ranges)
      if (end > 2 ** 32 - 1) problem([...path, index, 'size'], `goes past the last id, from ${side} on`);
    ranges.sort((a, b) => a.start - b.start || a.index - b.index);
    let last = { index: 0, end: 0 };
    for (const range of ranges) {
      if (range.start < last.end) problem([...path, range.index, side], `overlaps with the range of [${last.index}]`);
      if (range.end > last.end) last = range;
    }
  }
}
