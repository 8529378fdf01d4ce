/* Texts of /proc as numbers: proc_pid_stat(5), proc_pid_status(5), proc_pid_io(5), user_namespaces(7). Touches nothing. */

/** Ticks in a second, as user space always sees them (USER_HZ). */
export const ticksPerSecond = 100;
/** x86-64. */
const pageBytes = 4096;

export interface ProcessNumbers {
  readonly state: string;
  readonly parent: number;
  /** In user space and in the kernel, of all its threads. */
  readonly ticks: number;
  /** Of its children that have ended and were waited for, and of theirs. */
  readonly childTicks: number;
  readonly threads: number;
  /** After boot. */
  readonly startTicks: number;
  readonly residentBytes: number;
}

/** /proc/PID/stat; undefined for what is none. */
export function parseStat(text: string): ProcessNumbers | undefined {
  // The command's name may hold spaces and brackets: fields are counted from behind its last bracket.
  const end = text.lastIndexOf(')');
  if (end < 0) return undefined;
  const fields = text.slice(end + 2).split(' ');
  /** By its number in the manual page. */
  const field = (number: number): number => Number(fields[number - 3] ?? 0);
  return {
    state: fields[0] ?? '?',
    parent: field(4),
    ticks: field(14) + field(15),
    childTicks: field(16) + field(17),
    threads: field(20),
    startTicks: field(22),
    residentBytes: field(24) * pageBytes,
  };
}

export interface ProcessIdentity {
  /** Effective user id, as the reader's user namespace has it. */
  readonly uid: number;
  /** Its number in each PID namespace that it is in, the reader's first and its own last. */
  readonly pids: readonly number[];
}

/** /proc/PID/status. */
export function parseStatus(text: string): ProcessIdentity {
  const numbers = (key: string): number[] =>
    (new RegExp(`^${key}:\\s+(.*)$`, 'm').exec(text)?.[1] ?? '').split(/\s+/).filter(Boolean).map(Number);
  return { uid: numbers('Uid')[1] ?? 0, pids: numbers('NSpid') };
}

export interface Traffic {
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** /proc/PID/net/dev, by interface: of the network namespace that the process is in. */
export function parseNetDev(text: string): ReadonlyMap<string, Traffic> {
  return new Map(
    text.split('\n').flatMap((line): [string, Traffic][] => {
      const match = /^\s*(\S+):\s*(.*)$/.exec(line);
      if (match === null) return [];
      const numbers = (match[2] ?? '').split(/\s+/).map(Number);
      return [[match[1] ?? '', { receivedBytes: numbers[0] ?? 0, sentBytes: numbers[8] ?? 0 }]];
    }),
  );
}

export interface DiskTraffic {
  readonly readBytes: number;
  readonly writtenBytes: number;
}

/** /proc/PID/io: what had to be fetched from storage and what was sent there, not what came from memory. */
export function parseIo(text: string): DiskTraffic {
  const number = (key: string): number => Number(new RegExp(`^${key}: (\\d+)$`, 'm').exec(text)?.[1] ?? 0);
  return {
    readBytes: number('read_bytes'),
    writtenBytes: Math.max(0, number('write_bytes') - number('cancelled_write_bytes')),
  };
}

/** An id of the reader's in the namespace whose uid_map or gid_map this is; undefined where it has none there. */
export function idInside(map: string, id: number): number | undefined {
  for (const line of map.split('\n')) {
    const [inside = 0, outside = 0, count = 0] = line.trim().split(/\s+/).map(Number);
    if (id >= outside && id < outside + count) return inside + id - outside;
  }
  return undefined;
}

/** The value of a variable in /proc/PID/environ. */
export function variableOf(environment: string, name: string): string | undefined {
  const start = `\0${environment}`.indexOf(`\0${name}=`);
  if (start < 0) return undefined;
  const value = environment.slice(start + name.length + 1);
  const end = value.indexOf('\0');
  return end < 0 ? value : value.slice(0, end);
}

/** Words of /proc/PID/cmdline as one line; a kernel thread and a zombie have none. */
export const commandLine = (text: string): string => text.split('\0').join(' ').trim();

/** `MemTotal` of /proc/meminfo. */
export const totalMemory = (text: string): number => Number(/^MemTotal:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * 1024;
