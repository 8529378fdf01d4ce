import { join } from 'node:path';
import type { MachineContext } from '../../src/model/provider.ts';

/** Every file that this provider makes for one machine. docs/kvm.md says who writes and who reads each. */
export function machineFiles(context: Pick<MachineContext, 'dir' | 'runDir'>) {
  return {
    /** qcow2 overlay over the box's disk. */
    disk: join(context.dir, 'disk.qcow2'),
    /** Data disks, one qcow2 file each. */
    disks: join(context.dir, 'disks'),
    /** Keys and machine-id, see identity.ts. */
    identity: join(context.dir, 'identity'),
    /** SMBIOS strings, see credentials.ts. Written at every start. */
    credentials: join(context.dir, 'credentials'),
    consoleLog: join(context.dir, 'console.log'),
    /** QEMU's own words. */
    qemuLog: join(context.dir, 'qemu.log'),
    qmpSocket: join(context.runDir, 'qmp.sock'),
    consoleSocket: join(context.runDir, 'console.sock'),
  };
}

export type MachineFiles = ReturnType<typeof machineFiles>;

/** File of a data disk. The name was checked to be a plain word by the Tsfile's schema. */
export const dataDiskFile = (files: MachineFiles, name: string): string => join(files.disks, `${name}.qcow2`);
