import { TsvError } from '../model/errors.ts';
import type { OciConfig, OciLinux, OciProcess } from './spec.ts';
import { checkMappings, linuxRules, unsetSwappiness } from './validate-linux.ts';
import { processRules, withKnownCapabilities } from './validate-process.ts';
import { type Problem, printPath, quote, schemaProblems } from './validate-schema.ts';

export type Path = readonly (string | number)[];
export type Report = (path: Path, message: string) => void;

/** Something that the types of the values do not say. */
export interface Rule {
  /** Parts of the document that it relies on: it is left out while one of them is not what the schema says. */
  readonly reads: readonly string[];
  readonly check: (config: OciConfig, report: { readonly problem: Report; readonly warning: Report }) => void;
}

export interface Validated<T> {
  readonly value: T;
  /** What is passed over, each beginning with its JSON path. */
  readonly warnings: readonly string[];
}

/** The newest version of the specification that is known here. */
export const ociVersion = '1.2.0';

const commonRules: readonly Rule[] = [
  {
    reads: ['ociVersion'],
    check({ ociVersion: version }, { problem }) {
      const message = versionProblem(version);
      if (message !== undefined) problem(['ociVersion'], message);
    },
  },
  {
    reads: ['root'],
    check({ root }, { problem }) {
      if (root?.path === '') problem(['root', 'path'], 'must not be empty');
    },
  },
  {
    reads: ['mounts'],
    check({ mounts }, { problem, warning }) {
      for (const [index, mount] of (mounts ?? []).entries()) {
        const path = ['mounts', index];
        if (mount.destination === '') problem([...path, 'destination'], 'must not be empty');
        else if (!mount.destination.startsWith('/'))
          warning([...path, 'destination'], `is not absolute, taken from the root: ${quote(mount.destination)}`);
        const { uidMappings = [], gidMappings = [] } = mount;
        if (uidMappings.length > 0 !== gidMappings.length > 0)
          problem([...path, uidMappings.length > 0 ? 'gidMappings' : 'uidMappings'], 'is missing beside the other one');
        checkMappings([...path, 'uidMappings'], uidMappings, problem);
        checkMappings([...path, 'gidMappings'], gidMappings, problem);
      }
    },
  },
];

const rules: readonly Rule[] = [...commonRules, ...processRules, ...linuxRules];

/**
 * Checks a parsed config.json (and changes it: what stands for absent is taken out).
 * @returns the configuration without null and without names that do not exist.
 * @throws TSV_BUNDLE with every problem, one line each: `linux.resources.memory.limit: must be a whole number, not "1G"`.
 * @param where how the message calls the document: `config.json of bundle /x`.
 * @param look finds problems that only the host can tell; called with a document that has none else.
 */
export function validateConfig(
  document: unknown,
  where: string,
  look: (config: OciConfig) => readonly Problem[] = () => [],
): Validated<OciConfig> {
  const { problems, warnings } = inspect(document, rules);
  const all = problems.length > 0 ? problems : look(document as OciConfig);
  if (all.length > 0) throw invalid(where, all);
  return { value: normalised(document as OciConfig), warnings };
}

/** Checks a parsed process.json, as `exec` takes it. The same as `validateConfig`, with paths below `process`. */
export function validateProcess(document: unknown, where: string): Validated<OciProcess> {
  // Within a smallest configuration; a null would be taken out there, and be no mistake.
  const config = { ociVersion, root: { path: '/' }, process: document ?? 'null' };
  const { problems, warnings } = inspect(config, processRules);
  const own = problems.map(({ path, message }) => ({ path: path.slice(1), message }));
  if (own.length > 0) throw invalid(where, own);
  const value = withKnownCapabilities(config.process as unknown as OciProcess);
  return { value, warnings: warnings.map((line) => line.replace(/^process\./, '')) };
}

export const isContainerId = (id: string): boolean => /^[A-Za-z0-9_+-][A-Za-z0-9_+.-]*$/.test(id) && id.length <= 1024;

/** @throws TSV_USAGE unless an id can be the name of a folder and a cgroup and is no path: `web-1`, `a.b_c+d`. */
export function checkContainerId(id: string): void {
  if (isContainerId(id)) return;
  throw new TsvError('TSV_USAGE', `${quote(id)} cannot be the id of a container`, {
    hint: 'letters, digits and the characters _ + - . are possible, at most 1024; the first is no dot',
  });
}

function inspect(document: unknown, applied: readonly Rule[]): { problems: readonly Problem[]; warnings: string[] } {
  takeOutAbsent(document);
  const problems = [...schemaProblems(document)];
  const isSound = soundness(problems);
  const warnings: string[] = [];
  const report = {
    problem: (path: Path, message: string): void => void problems.push({ path, message }),
    warning: (path: Path, message: string): void => void warnings.push(`${printPath(path)}: ${message}`),
  };
  for (const rule of applied) if (rule.reads.every(isSound)) rule.check(document as OciConfig, report);
  return { problems, warnings };
}

/** Whether a part of the document, at most three keys deep, is free of problems: in it, and in what it lies in. */
function soundness(problems: readonly Problem[]): (part: string) => boolean {
  const broken = new Set<string>();
  const touched = new Set<string>();
  for (const { path } of problems) {
    for (let depth = 0; depth <= Math.min(path.length, 3); depth++) touched.add(path.slice(0, depth).join('.'));
    if (path.length < 3) broken.add(path.join('.'));
  }
  return (part) => {
    const keys = part.split('.');
    return !touched.has(part) && !keys.some((_, depth) => broken.has(keys.slice(0, depth).join('.')));
  };
}

const maxLines = 100;

function invalid(where: string, problems: readonly Problem[]): TsvError {
  const lines = problems.slice(0, maxLines).map(({ path, message }) => `${printPath(path) || 'all of it'}: ${message}`);
  const rest = problems.length - lines.length;
  return new TsvError('TSV_BUNDLE', `${where} is not valid`, {
    details: rest > 0 ? [...lines, `and ${rest} more`] : lines,
  });
}

/** Semantic Versioning 2.0, as its own site writes it. */
const semanticVersion =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(?:0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*)(?:\.(?:0|[1-9]\d*|\d*[A-Za-z-][\dA-Za-z-]*))*)?(?:\+[\dA-Za-z-]+(?:\.[\dA-Za-z-]+)*)?$/;

function versionProblem(version: string): string | undefined {
  const [, major, minor] = semanticVersion.exec(version) ?? [];
  if (major === undefined || minor === undefined)
    return `must be a version such as ${ociVersion}, not ${quote(version)}`;
  if (Number(major) < 1) return `of an older specification: ${quote(version)}; this runtime knows 1.0 to 1.2`;
  if (Number(major) > 1 || Number(minor) > 2)
    return `of a newer specification: ${quote(version)}; this runtime knows up to 1.2`;
  return undefined;
}

/** Keys in which Go programs write an empty text for "none"; `*` is any entry of a list. */
const emptyIsAbsent = [
  'hostname',
  'domainname',
  'mounts.*.type',
  'mounts.*.source',
  'process.apparmorProfile',
  'process.selinuxLabel',
  'linux.cgroupsPath',
  'linux.rootfsPropagation',
  'linux.mountLabel',
  'linux.namespaces.*.path',
  'linux.resources.devices.*.type',
  'linux.resources.devices.*.access',
  'linux.resources.cpu.cpus',
  'linux.resources.cpu.mems',
  'linux.seccomp.listenerPath',
  'linux.seccomp.listenerMetadata',
].map((path) => path.split('.'));

type Json = Record<string, unknown>;
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null;

function takeOutAbsent(document: unknown): void {
  // Nothing that the specification names lies deeper: linux.seccomp.syscalls[].args[].value.
  takeOutNull(document, 7);
  for (const path of emptyIsAbsent) takeOutEmpty(document, path);
}

function takeOutNull(value: unknown, depth: number): void {
  if (!isObject(value) || depth === 0) return;
  if (Array.isArray(value)) {
    for (const item of value) takeOutNull(item, depth - 1);
    return;
  }
  for (const key of Object.keys(value)) {
    if (value[key] === null) delete value[key];
    else takeOutNull(value[key], depth - 1);
  }
}

function takeOutEmpty(value: unknown, [key, ...rest]: readonly string[]): void {
  if (!isObject(value) || key === undefined) return;
  if (key === '*') for (const item of Array.isArray(value) ? value : []) takeOutEmpty(item, rest);
  else if (rest.length > 0) takeOutEmpty(value[key], rest);
  else if (value[key] === '') delete value[key];
}

/** `rslave` and so on, which Podman and crun write, are the specification's `slave`. */
const propagations: Readonly<Record<string, NonNullable<OciLinux['rootfsPropagation']>>> = {
  rshared: 'shared',
  rslave: 'slave',
  rprivate: 'private',
  runbindable: 'unbindable',
};

function normalised(config: OciConfig): OciConfig {
  const { process, linux } = config;
  return {
    ...config,
    ...(process === undefined ? {} : { process: withKnownCapabilities(process) }),
    ...(linux === undefined ? {} : { linux: normalisedLinux(linux) }),
  };
}

function normalisedLinux(linux: OciLinux): OciLinux {
  const propagation = propagations[linux.rootfsPropagation ?? ''];
  const memory = linux.resources?.memory;
  const { swappiness, ...otherMemory } = memory ?? {};
  return {
    ...linux,
    ...(propagation === undefined ? {} : { rootfsPropagation: propagation }),
    ...(swappiness === unsetSwappiness ? { resources: { ...linux.resources, memory: otherMemory } } : {}),
  };
}
