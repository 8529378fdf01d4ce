import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A process as /proc shows it (proc(5)). What this user may not read is empty. */
export interface HostProcess {
  readonly pid: number;
  readonly parent: number;
  /** Real user id. */
  readonly uid: number;
  /** Clock ticks after boot: with the pid, the process's identity. */
  readonly startTime: string;
  readonly name: string;
  readonly command: string;
  readonly environment: string;
  readonly cwd: string;
  readonly cgroup: string;
  /** Inode by namespace, such as `net: 4026531840`. */
  readonly namespaces: Readonly<Record<string, string>>;
}

const namespaceNames = ['net', 'user', 'mnt', 'pid'] as const;

/** Every process that is no zombie. A zombie holds nothing but its number, and goes when its parent looks. */
export function listProcesses(): Map<number, HostProcess> {
  const found = new Map<number, HostProcess>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const process = readProcess(Number(entry));
    if (process !== undefined) found.set(process.pid, process);
  }
  return found;
}

export function readProcess(pid: number): HostProcess | undefined {
  const stat = read(`/proc/${pid}/stat`);
  const end = stat.lastIndexOf(')');
  if (end < 0) return undefined;
  const [state = '', parent = '0', ...rest] = stat.slice(end + 2).split(' ');
  if (state === 'Z' || state === 'X') return undefined;
  return {
    pid,
    parent: Number(parent),
    uid: Number(/^Uid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1] ?? -1),
    startTime: rest[17] ?? '', // field 22
    name: stat.slice(stat.indexOf('(') + 1, end),
    command: read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim(),
    environment: read(`/proc/${pid}/environ`),
    cwd: link(`/proc/${pid}/cwd`),
    cgroup: read(`/proc/${pid}/cgroup`),
    namespaces: Object.fromEntries(
      namespaceNames.map((name) => [name, /\[(\d+)\]/.exec(link(`/proc/${pid}/ns/${name}`))?.[1] ?? '']),
    ),
  };
}

/** `TSV_ID` of a process's environment. */
export const tsvId = (process: HostProcess): string | undefined =>
  /(?:^|\0)TSV_ID=([^\0]*)/.exec(process.environment)?.[1];

/** What its descriptors are: paths, or what stands for them, such as `anon_inode:[pidfd]`. */
export function openFiles(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`).map((fd) => link(`/proc/${pid}/fd/${fd}`));
  } catch {
    return []; // gone, or not ours to read
  }
}

export function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // gone, or not ours to read
  }
}

function link(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
