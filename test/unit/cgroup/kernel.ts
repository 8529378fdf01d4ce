import { dirname } from 'node:path';
import type { CgroupFiles } from '../../../src/cgroup/files.ts';
import type { TsvError } from '../../../src/model/errors.ts';

/** What `work` throws. */
export function failure(work: () => unknown): TsvError {
  try {
    work();
  } catch (error) {
    return error as TsvError;
  }
  throw new Error('nothing was thrown');
}

export const errno = (code: string): Error => Object.assign(new Error(code), { code });

/** Files that a new cgroup gets in v2, by controller; '' is those of every cgroup. */
const v2Files: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '': {
    'cgroup.procs': '',
    'cgroup.threads': '',
    'cgroup.type': 'domain',
    'cgroup.subtree_control': '',
    'cgroup.freeze': '0',
    'cgroup.kill': '',
    'cgroup.events': 'populated 0\nfrozen 0',
    'cpu.stat': 'usage_usec 0\nuser_usec 0\nsystem_usec 0',
  },
  memory: {
    'memory.max': 'max',
    'memory.low': '0',
    'memory.high': 'max',
    'memory.current': '4096',
    'memory.swap.max': 'max',
    'memory.events': 'oom 0\noom_kill 0',
  },
  cpu: { 'cpu.max': 'max 100000', 'cpu.weight': '100', 'cpu.idle': '0', 'cpu.max.burst': '0' },
  cpuset: { 'cpuset.cpus': '', 'cpuset.mems': '' },
  pids: { 'pids.max': 'max', 'pids.current': '0' },
  io: { 'io.max': '', 'io.weight': 'default 100' },
  hugetlb: { 'hugetlb.2MB.max': 'max', 'hugetlb.2MB.rsvd.max': 'max' },
  rdma: { 'rdma.max': '' },
};

/** The same in v1. */
const v1Files: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  '': { 'cgroup.procs': '' },
  memory: {
    'memory.limit_in_bytes': '9223372036854771712',
    'memory.memsw.limit_in_bytes': '9223372036854771712',
    'memory.soft_limit_in_bytes': '9223372036854771712',
    'memory.usage_in_bytes': '0',
    'memory.swappiness': '60',
    'memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 0',
  },
  cpu: { 'cpu.shares': '1024', 'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '-1', 'cpu.cfs_burst_us': '0' },
  cpuset: { 'cpuset.cpus': '', 'cpuset.mems': '' },
  pids: { 'pids.max': 'max' },
  devices: { 'devices.list': 'a *:* rwm', 'devices.allow': '', 'devices.deny': '' },
  freezer: { 'freezer.state': 'THAWED', 'freezer.self_freezing': '0' },
};

/**
 * A kernel with hierarchies of cgroups, in memory: folders come with files, v2 hands controllers down, busy folders stay.
 * `log` has every write as `FILE = VALUE`.
 */
export class FakeKernel implements CgroupFiles {
  readonly log: string[] = [];
  readonly owners = new Map<string, number>();
  readonly #texts = new Map<string, string>();
  readonly #folders = new Map<string, { version: 1 | 2; controllers: readonly string[] }>();
  readonly #listeners = new Map<string, Set<() => void>>();
  /** Answers a write instead of the kernel: an errno, or what is stored. */
  onWrite: (file: string, value: string) => string | Error | undefined = () => undefined;
  /** Folders in which nothing can be made. */
  readonly locked = new Set<string>();

  hierarchy(version: 1 | 2, mountPoint: string, controllers: readonly string[]): this {
    this.#addFolder(mountPoint, version, controllers);
    if (version === 1 && controllers.includes('cpuset')) {
      this.#texts.set(`${mountPoint}/cpuset.cpus`, '0-3');
      this.#texts.set(`${mountPoint}/cpuset.mems`, '0');
    }
    return this;
  }

  file(path: string, text: string): this {
    this.#texts.set(path, text);
    for (const listener of this.#listeners.get(path) ?? []) listener();
    return this;
  }

  without(path: string): this {
    this.#texts.delete(path);
    return this;
  }

  folders(): string[] {
    return [...this.#folders.keys()].sort();
  }

  read = (file: string): string => {
    const text = this.#texts.get(file);
    if (text === undefined) throw errno('ENOENT');
    return `${text}\n`;
  };

  write = (file: string, value: string): void => {
    this.log.push(`${file} = ${value}`);
    const answer = this.onWrite(file, value);
    if (answer instanceof Error) throw answer;
    if (!this.#texts.has(file)) throw errno('ENOENT');
    const folder = dirname(file);
    if (file.endsWith('/cgroup.subtree_control')) this.#handDown(folder, value);
    else this.file(file, answer ?? value);
  };

  exists = (path: string): boolean => this.#texts.has(path) || this.#folders.has(path);
  writable = (folder: string): boolean => this.#folders.has(folder) && !this.locked.has(folder);
  chown = (path: string, uid: number): void => {
    this.owners.set(path, uid);
  };

  makeFolder = (folder: string): boolean => {
    if (this.#folders.has(folder)) return false;
    const above = this.#folders.get(dirname(folder));
    if (above === undefined) throw errno('ENOENT');
    if (this.locked.has(dirname(folder))) throw errno('EACCES');
    const inherited = this.#texts.get(`${dirname(folder)}/cgroup.subtree_control`) ?? '';
    this.#addFolder(folder, above.version, above.version === 1 ? above.controllers : words(inherited));
    return true;
  };

  removeFolder = (folder: string): void => {
    if (!this.#folders.has(folder)) throw errno('ENOENT');
    if (this.children(folder).length > 0 || this.#texts.get(`${folder}/cgroup.procs`)) throw errno('EBUSY');
    this.#folders.delete(folder);
    for (const file of this.#texts.keys()) if (dirname(file) === folder) this.#texts.delete(file);
  };

  children = (folder: string): string[] =>
    this.folders()
      .filter((path) => dirname(path) === folder)
      .map((path) => path.slice(folder.length + 1));

  onChange = (file: string, listener: () => void): (() => void) => {
    const listeners = this.#listeners.get(file) ?? new Set();
    this.#listeners.set(file, listeners.add(listener));
    return () => listeners.delete(listener);
  };

  #handDown(folder: string, value: string): void {
    if (this.#texts.get(`${folder}/cgroup.procs`)) throw errno('EBUSY');
    const offered = words(this.#texts.get(`${folder}/cgroup.controllers`));
    const added = words(value).map((word) => word.slice(1));
    if (!added.every((name) => offered.includes(name))) throw errno('ENOENT');
    const file = `${folder}/cgroup.subtree_control`;
    this.#texts.set(file, [...new Set([...words(this.#texts.get(file)), ...added])].join(' '));
    for (const child of this.children(folder)) this.#fill(`${folder}/${child}`, 2, words(this.#texts.get(file)));
  }

  #addFolder(folder: string, version: 1 | 2, controllers: readonly string[]): void {
    this.#folders.set(folder, { version, controllers });
    this.#fill(folder, version, controllers);
  }

  #fill(folder: string, version: 1 | 2, controllers: readonly string[]): void {
    const table = version === 1 ? v1Files : v2Files;
    for (const name of ['', ...controllers])
      for (const [file, text] of Object.entries(table[name] ?? {})) {
        const path = `${folder}/${file}`;
        if (!this.#texts.has(path)) this.#texts.set(path, text);
      }
    if (version === 2) this.#texts.set(`${folder}/cgroup.controllers`, controllers.join(' '));
  }
}

const words = (text = ''): string[] => text.split(' ').filter((word) => word !== '');
