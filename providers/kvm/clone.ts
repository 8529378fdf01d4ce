import { existsSync, mkdirSync } from 'node:fs';
import type { MachineContext, Provider } from '../../src/model/provider.ts';
import { mustRun } from '../../src/sys/command.ts';
import { copyExact } from '../../src/sys/copy-exact.ts';
import { checkDataDisk, checkOverlay } from './disk.ts';
import { machineFiles } from './files.ts';
import { closedDisk, closedTags } from './snapshot.ts';

/**
 * The disks, without the snapshots in them: those have the memory of another machine. A machine whose disk has never run has none,
 * and neither has its copy, which then starts as it would. Who a machine is comes from outside at each start.
 */
export async function cloneVm(
  context: MachineContext,
  store: string,
  { folder, wanted, signal }: Parameters<Provider['clone']>[1],
): Promise<void> {
  const { machine, box } = context;
  const files = machineFiles(context);
  const copies = machineFiles({ dir: folder, runDir: folder });
  const copy = async (from: string, to: string): Promise<void> => {
    const failure = { code: 'TSV_CLONE', message: `the disk ${from} of ${machine.name} could not be copied` } as const;
    await copyExact(from, to, failure, signal);
    const disk = closedDisk(to);
    for (const { tag } of await closedTags(disk))
      await mustRun(['qemu-img', 'snapshot', '-q', '-d', tag, '--image-opts', disk.options], failure);
    signal.throwIfAborted();
  };
  if (!existsSync(files.unused) && box.disk !== undefined) {
    checkOverlay(files.disk, box.disk, store);
    await copy(files.disk, copies.disk);
  }
  for (const disk of wanted.disks) {
    const file = files.dataDisk(disk);
    if (!existsSync(file)) continue;
    checkDataDisk(file);
    mkdirSync(copies.disks, { recursive: true, mode: 0o700 });
    await copy(file, copies.dataDisk(disk));
  }
}
