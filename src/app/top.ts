import { TsvError } from '../model/errors.ts';
import { readBelow } from '../oci/open.ts';
import { containerProcesses, readProc, startedAt } from '../sys/proc.ts';
import { commandLine, idInside, parseStat, parseStatus, ticksPerSecond } from '../sys/proc-text.ts';
import { captureInMachine } from './capture.ts';
import { runningMachine } from './machine.ts';
import type { Place } from './place.ts';

/** A process of a machine. */
export interface MachineProcess {
  /** In the machine. */
  readonly pid: number;
  /** On the host; a VM's has none. */
  readonly hostPid?: number;
  /** A name where the machine's /etc/passwd has one, else the number. */
  readonly user: string;
  /** Of one CPU, since it started, as ps(1) shows it. */
  readonly cpuPercent: number;
  /** Resident; what it shares with others counts for each of them. */
  readonly memoryBytes: number;
  /** CPU time that it has used. */
  readonly cpuSeconds: number;
  readonly command: string;
}

/** The processes of a machine that runs, by their numbers in it. @throws TSV_UNKNOWN_MACHINE, TSV_NOT_RUNNING */
export async function machineProcesses(place: Place, name: string, typed: string): Promise<readonly MachineProcess[]> {
  const { record, process } = await runningMachine(place, name);
  return record.spec.kind === 'vm' ? ofVm(place, name, typed) : ofContainer(process.pid);
}

/** Looked at from the host: it works in containers that have no ps, and while they are paused. */
function ofContainer(init: number): MachineProcess[] {
  const level = parseStatus(readProc(init, 'status') ?? '').pids.length - 1;
  const ids = readProc(init, 'uid_map') ?? '';
  const names = userNames(readBelow(`/proc/${init}/root`, '/etc/passwd') ?? '');
  return containerProcesses(init)
    .flatMap((hostPid): MachineProcess[] => {
      const stat = parseStat(readProc(hostPid, 'stat') ?? '');
      const status = parseStatus(readProc(hostPid, 'status') ?? '');
      const pid = status.pids[level];
      if (stat === undefined || pid === undefined) return []; // it ended meanwhile
      const uid = idInside(ids, status.uid);
      const cpuSeconds = stat.ticks / ticksPerSecond;
      const runsForMs = Math.max(10, Date.now() - startedAt(stat.startTicks));
      return [
        {
          pid,
          hostPid,
          user: uid === undefined ? '?' : (names.get(uid) ?? String(uid)),
          cpuPercent: Math.round((cpuSeconds / runsForMs) * 1_000_000) / 10,
          memoryBytes: stat.residentBytes,
          cpuSeconds,
          // A zombie and what has cleared its arguments still have a name.
          command: commandLine(readProc(hostPid, 'cmdline') ?? '') || `[${(readProc(hostPid, 'comm') ?? '').trim()}]`,
        },
      ];
    })
    .sort((a, b) => a.pid - b.pid);
}

/** Names by number, of passwd(5); the first one of a number counts. */
export function userNames(passwd: string): ReadonlyMap<number, string> {
  const rows = passwd.split('\n').map((line) => line.split(':'));
  const known = rows.filter(([name, , id]) => name !== '' && id !== undefined && /^\d+$/.test(id));
  return new Map(known.reverse().map(([name = '', , id]) => [Number(id), name]));
}

const columns = ['pid=', 'user:32=', 'pcpu=', 'rss=', 'cputimes=', 'args='];

async function ofVm(place: Place, name: string, typed: string): Promise<MachineProcess[]> {
  const argv = ['ps', '-ww', ...columns.flatMap((column) => ['-o', column]), '-e'];
  const { code, stdout, stderr } = await captureInMachine(place, name, argv, typed);
  if (code === 0) return parsePs(stdout);
  throw new TsvError('TSV_UNSUPPORTED', `${name}: its ps does not list processes as procps does (exit code ${code})`, {
    details: stderr.trim().split('\n'),
    hint: `tsv exec ${name} -- ps`,
  });
}

/** Lines of ps(1) with {@link columns}. */
export function parsePs(text: string): MachineProcess[] {
  return text.split('\n').flatMap((line): MachineProcess[] => {
    const match = /^\s*(\d+)\s+(\S+)\s+([\d.]+)\s+(\d+)\s+(\d+)\s+(.*)$/.exec(line);
    if (match === null) return [];
    const [, pid, user = '', cpu, kib, seconds, command = ''] = match;
    return [
      {
        pid: Number(pid),
        user,
        cpuPercent: Number(cpu),
        memoryBytes: Number(kib) * 1024,
        cpuSeconds: Number(seconds),
        command,
      },
    ];
  });
}
