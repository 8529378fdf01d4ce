import { mkdirSync, rmdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { MachineContext } from '../../src/model/provider.ts';
import { templateFiles } from '../../src/store/template/layout.ts';
import { sealTemplate } from '../../src/store/template/template.ts';
import { mustRun } from '../../src/sys/command.ts';
import { givesUsers } from '../../src/sys/own-user.ts';
import type { KvmFacts } from './accel.ts';
import type { Attachment } from './attachment.ts';
import { machineFiles } from './files.ts';
import { connectGuest, type GuestRequest } from './guest.ts';
import { bootFiles } from './jail.ts';
import { moveState, saveDevices } from './migration.ts';
import { converseQmp, runState } from './qmp.ts';
import { shapeOf } from './snapshot.ts';
import { templateSpec } from './spec.ts';
import { templateKeyOf } from './template.ts';
import { startForTemplate } from './template-start.ts';
import { errorText } from './text.ts';
import { standStill } from './warm.ts';

const answerMs = 30_000;

async function askGuest(guestSocket: string, ...requests: GuestRequest[]): Promise<void> {
  const guest = await connectGuest(guestSocket);
  await guest.ask(requests, answerMs).finally(() => guest.close());
}

/** What else is in there, somebody put who has taken QEMU over: it is no place to remove folders from, and goes with the machine. */
function leave(meeting: string): void {
  try {
    rmdirSync(meeting);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
  }
}

const refused = (why: string): TsvError => new TsvError('TSV_CACHE', why);

/**
 * Keeps a machine that runs, as of one moment, in the form of a template: a copy of its disk, its memory in a file, and its
 * devices. The memory goes to a second QEMU, whose memory that file is and which never runs. The machine stands still meanwhile.
 * @param folder there, and empty
 * @throws TSV_CACHE where it has what a layer does not hold
 */
export async function saveVmLayer(
  context: MachineContext,
  { qmp, process: { pid } }: Pick<Attachment, 'qmp' | 'process'>,
  facts: KvmFacts,
  { folder, signal }: { readonly folder: string; readonly signal: AbortSignal },
): Promise<void> {
  const { machine, box } = context;
  const shape = await shapeOf(qmp, facts.cpuModel);
  if (shape.balloon) throw refused('it was started with a balloon, since `cache` was not set then');
  if (shape.cpus !== shape.bootCpus) throw refused('CPUs were added to it');
  const { uid } = statSync(`/proc/${pid}`);
  if (givesUsers() && uid === 0) throw refused('it was started by an older version of tsv');
  if (machine.disks.length > 0) throw refused('its data disks are not in a layer');
  const files = machineFiles(context);
  // The machine's QEMU may be a user of its own, who knows no folder but this.
  const meeting = join(files.runDir, 'layer');
  mkdirSync(meeting, { recursive: true, mode: 0o700 });
  const memory = join(folder, templateFiles.memory);
  const spec = templateSpec(machine, box, shape.accel, { disk: '', memory, credentials: '', blank: () => '' });
  const disks = [{ path: '', format: 'empty' as const, bytes: box.disk?.virtualBytes ?? 0 }];
  const keeper = await startForTemplate(
    {
      spec: { ...spec, disks, smbiosStrings: [], incoming: true },
      ...{ folder, cwd: meeting, uid },
      belongings: { own: [], secrets: [], shared: bootFiles(box) },
    },
    { signal, background: false },
  );
  try {
    const other = await converseQmp(keeper.qmp, answerMs);
    const runs = (await runState(qmp)) === 'running';
    // What follows changes of the network is to stand still when the next machine goes on, whose cable is out at first. A machine
    // with other memory boots from the disk alone.
    if (runs) await askGuest(files.guestSocket, standStill, ['sync']);
    if (runs) await qmp.execute('stop');
    try {
      await keeper.unlessItEnds(moveState(qmp, { qmp: other, folder: meeting }));
      await mustRun(['cp', '--reflink=auto', '--sparse=always', '--', files.disk, join(folder, templateFiles.disk)], {
        code: 'TSV_CACHE',
        message: `the disk ${files.disk} could not be copied`,
        hint: 'tsv store usage shows what takes the room',
      });
    } finally {
      if (runs) await qmp.execute('cont');
      // What fails, the guest does by itself when its time is over.
      if (runs) await askGuest(files.guestSocket, ['foreground']).catch(() => {});
    }
    await keeper.unlessItEnds(
      saveDevices(other, { own: meeting, file: join(folder, templateFiles.devices), uid: keeper.uid }),
    );
  } catch (error) {
    if (error instanceof TsvError) throw error;
    const said = keeper.said().trim().split('\n').slice(-4);
    throw new TsvError('TSV_CACHE', 'its memory could not be kept', {
      details: [errorText(error), ...said],
      cause: error,
    });
  } finally {
    await keeper.end();
    leave(meeting);
  }
  await sealTemplate(folder, {
    key: templateKeyOf({ machine, box, accel: shape.accel, facts }),
    box: box.name,
    boxDigest: box.digest,
    accel: shape.accel,
    memoryBytes: machine.memoryBytes,
    cpus: machine.cpus,
    madeAt: new Date().toISOString(),
  });
}
