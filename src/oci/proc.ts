import { AT, O } from '../sys/flags.ts';
import type { Step } from '../sys/program.ts';
import { newFilesystem } from './new-filesystem.ts';
import { keepAs, openHow, openInRoot } from './paths.ts';
import type { OciProcess } from './spec.ts';

const hostProc: readonly Step[] = [
  {
    call: 'openat2',
    args: [AT.FDCWD, '/proc', { bytes: openHow(O.PATH | O.DIRECTORY, 0) }, 24],
    as: 'the host’s proc',
  },
  ...keepAs('the host’s proc', 'tree'),
];

/**
 * A new proc file system of the container's PID namespace, into `tree`, that is nowhere mounted: nothing of the image can
 * stand in for it (CVE-2019-16884).
 */
const ownProc: readonly Step[] = newFilesystem('proc');

/**
 * The same, or the host's /proc where none can be made: a user namespace may mount the PID namespace of the host as little
 * as one that it sees only a part of. For as long as the root is the host's.
 */
export const ownOrHostProc: readonly Step[] = newFilesystem('proc', { otherwise: hostProc });

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
