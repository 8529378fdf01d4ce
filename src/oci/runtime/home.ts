import { readBelow } from '../open.ts';
import type { OciConfig, OciProcess } from '../spec.ts';

/** HOME of the process's user, as the container's passwd(5) has it, unless the configuration says one. */
export function withHome(config: OciConfig, rootfs: string): OciConfig {
  return config.process === undefined ? config : { ...config, process: processWithHome(config.process, rootfs) };
}

/** The same for a process that joins; `rootfs` may be a path of /proc. */
export function processWithHome(process: OciProcess, rootfs: string): OciProcess {
  const { env = [], user } = process;
  if (env.some((entry) => entry.startsWith('HOME='))) return process;
  return { ...process, env: [...env, `HOME=${homeOf(rootfs, user?.uid ?? 0)}`] };
}

function homeOf(rootfs: string, uid: number): string {
  const rows = (readBelow(rootfs, '/etc/passwd') ?? '').split('\n').map((line) => line.split(':'));
  return rows.find((fields) => fields.length >= 7 && Number(fields[2]) === uid)?.[5] || '/';
}
