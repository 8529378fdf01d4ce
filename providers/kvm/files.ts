import { join } from 'node:path';
import type { Disk } from '../../src/model/project.ts';
import type { MachineContext } from '../../src/model/provider.ts';
import { dataDiskFile, stateFiles, vmDiskFile } from '../../src/state/paths.ts';

/** Every file that this provider makes for one machine. docs/kvm.md says who writes and who reads each. */
export function machineFiles(context: Pick<MachineContext, 'dir' | 'runDir'>) {
  return {
    /** qcow2 overlay over the box's disk. */
    disk: vmDiskFile(context.dir),
    /** Data disks, one qcow2 file each. */
    disks: join(context.dir, stateFiles.disks),
    dataDisk: (disk: Pick<Disk, 'name'>) => dataDiskFile(context.dir, disk),
    /** Keys and machine-id, see identity.ts. */
    identity: join(context.dir, 'identity'),
    /** SMBIOS strings, see credentials.ts. Written at every start. */
    credentials: join(context.dir, 'credentials'),
    consoleLog: join(context.dir, 'console.log'),
    /** QEMU's own words. */
    qemuLog: join(context.dir, 'qemu.log'),
    runDir: context.runDir,
    qmpSocket: join(context.runDir, 'qmp.sock'),
    consoleSocket: join(context.runDir, 'console.sock'),
    guestSocket: join(context.runDir, 'guest.sock'),
    /** Says that the guest may be yet to settle: see warm.ts. */
    unsettled: join(context.runDir, 'unsettled'),
    /** Says that the disk is a template's, and has not run yet: its content is the template's key. */
    unused: join(context.dir, 'unused-template'),
  };
}

export type MachineFiles = ReturnType<typeof machineFiles>;

/** What a running QEMU listens on, and what is known of it. */
export const runFiles = ({ qmpSocket, consoleSocket, guestSocket, unsettled }: MachineFiles) => [
  qmpSocket,
  consoleSocket,
  guestSocket,
  unsettled,
];
