import { closeSync } from 'node:fs';
import { syscall, withCString } from './libc.ts';

const [FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC] = [1, 1];
const [FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE] = [0, 1, 6];

/**
 * Mounts the file system of a block device, nowhere yet: the mount goes where its descriptor is moved to (move_mount(2)), or
 * away when that is closed (fsopen(2), fsconfig(2), fsmount(2)).
 * @param options of the file system's own, without values: `discard`
 * @throws TSV_SYSCALL
 */
export function newMount(type: string, device: string, options: readonly string[]): number {
  const purpose = `the file system on ${device}`;
  const context = withCString(type, (name) => syscall('fsopen', purpose, name, FSOPEN_CLOEXEC));
  try {
    withCString('source', (key) =>
      withCString(device, (value) => syscall('fsconfig', purpose, context, FSCONFIG_SET_STRING, key, value, 0)),
    );
    for (const option of options)
      withCString(option, (key) => syscall('fsconfig', purpose, context, FSCONFIG_SET_FLAG, key, 0, 0));
    syscall('fsconfig', purpose, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    return syscall('fsmount', purpose, context, FSMOUNT_CLOEXEC, 0);
  } finally {
    closeSync(context);
  }
}
