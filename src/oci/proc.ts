import { O } from '../sys/flags.ts';
import type { Step } from '../sys/program.ts';
import { keepAs, openInRoot } from './paths.ts';
import type { OciProcess } from './spec.ts';

const [FSOPEN_CLOEXEC, FSCONFIG_CMD_CREATE, FSMOUNT_CLOEXEC] = [1, 6, 1];

/**
 * A new proc file system of the container's PID namespace, into `tree`, that is nowhere mounted: nothing of the image can
 * stand in for it (fsopen(2), fsmount(2); CVE-2019-16884).
 */
export const ownProc: readonly Step[] = [
  { call: 'fsopen', args: ['proc', FSOPEN_CLOEXEC], as: 'proc' },
  ...keepAs('proc', 'file'),
  { call: 'fsconfig', args: [{ fd: 'file' }, FSCONFIG_CMD_CREATE, 0, 0, 0] },
  { call: 'fsmount', args: [{ fd: 'file' }, FSMOUNT_CLOEXEC, 0], as: 'mounted proc' },
  ...keepAs('mounted proc', 'tree'),
];

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
