import { O } from '../sys/flags.ts';
import type { Step } from '../sys/program.ts';
import { newFilesystem } from './new-filesystem.ts';
import { openInRoot } from './paths.ts';
import type { OciProcess } from './spec.ts';

/**
 * A new proc file system of the container's PID namespace, into `tree`, that is nowhere mounted: nothing of the image can
 * stand in for it (CVE-2019-16884).
 */
export const ownProc: readonly Step[] = newFilesystem('proc');

/** What the security module makes of the next execve: proc(5), /proc/PID/attr/exec. */
export function applyLabels({ apparmorProfile, selinuxLabel }: OciProcess): Step[] {
  const write = (file: string, content: string, note: string): Step[] => [
    ...ownProc,
    ...openInRoot(`self/attr/${file}`, O.WRONLY, { from: { fd: 'tree' }, into: 'file', note }),
    { call: 'write', args: [{ fd: 'file' }, content, Buffer.byteLength(content)], note },
  ];
  return [
    ...(apparmorProfile === undefined
      ? []
      : write('apparmor/exec', `exec ${apparmorProfile}`, `process.apparmorProfile: ${apparmorProfile}`)),
    ...(selinuxLabel === undefined ? [] : write('exec', selinuxLabel, `process.selinuxLabel: ${selinuxLabel}`)),
  ];
}
