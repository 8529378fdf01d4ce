import { readdirSync, readFileSync } from 'node:fs';

/** Who a process is, and what it may: proc(5), /proc/PID/status. */
export function ownerOf(pid: number) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(status)?.[1] ?? '';
  /** Real, effective, saved and that of file access: NaN where they differ. */
  const id = (name: string) => {
    const ids = new Set(field(name).split('\t').map(Number));
    return ids.size === 1 ? (ids.values().next().value ?? Number.NaN) : Number.NaN;
  };
  return {
    uid: id('Uid'),
    gid: id('Gid'),
    groups: field('Groups'),
    capabilities: ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map((name) => BigInt(`0x${field(name)}`)),
    noNewPrivileges: field('NoNewPrivs'),
    seccomp: field('Seccomp'),
  };
}

/** {@link ownerOf} a process without any right, under a filter of system calls. */
export const nobodyOnTheHost = {
  groups: '',
  capabilities: [0n, 0n, 0n, 0n, 0n],
  noNewPrivileges: '1',
  seccomp: '2',
};

/** The QEMUs that have this on their command lines. */
export const qemusOf = (text: string): number[] =>
  readdirSync('/proc').flatMap((entry) => {
    try {
      const argv = /^\d+$/.test(entry) ? readFileSync(`/proc/${entry}/cmdline`, 'utf8') : '';
      return argv.startsWith('qemu-system-') && argv.includes(text) ? [Number(entry)] : [];
    } catch {
      return []; // it ended meanwhile
    }
  });

/** That of a machine. */
export function qemuOf(projectDir: string, machine: string): number {
  const [pid, ...others] = qemusOf(`${projectDir}/.ts-vm/machines/${machine}/disk.qcow2`);
  if (pid === undefined || others.length > 0) throw new Error(`${machine} has not one QEMU`);
  return pid;
}
