import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Machine, VmShape } from '../model/project.ts';
import { storeDir } from '../state/paths.ts';
import { readUserMap } from '../sys/userns.ts';
import { requireHost } from './host.ts';
import { runKvmCheck } from './kvm-check.ts';
import { load, type Place } from './place.ts';
import { ensureSources } from './sources.ts';
import { oneStep } from './store.ts';

type Shape = VmShape & Pick<Machine, 'accel'>;

/** As a machine that the Tsfile gives nothing but its box. */
const usual: Shape = {
  memoryBytes: 512 * 2 ** 20,
  cpus: 1,
  disks: [],
  networks: [{ network: 'default' }],
  accel: 'auto',
};

/**
 * Makes the templates that the virtual machines of this box in the Tsfile start from; where there are none of it, or no
 * Tsfile, that of a machine with nothing but this box. `memoryBytes`, `cpus`: of a machine with this much instead.
 * @throws TSV_TEMPLATE, TSV_UNSUPPORTED, TSV_UNKNOWN_BOX
 */
export async function warmBox(
  place: Place,
  name: string,
  wanted: { readonly memoryBytes?: number; readonly cpus?: number },
  emit: Emit,
  signal: AbortSignal,
): Promise<void> {
  requireHost(['vm']);
  const shapes = Object.keys(wanted).length > 0 ? [{ ...usual, ...wanted }] : await shapesOf(place, name);
  const { digests } = await ensureSources(place, [{ box: name, kind: 'vm' }], emit, signal);
  const [digest = ''] = Object.values(digests);
  const { findBuiltBox } = await import('../store/box/find.ts');
  const box = findBuiltBox({ store: storeDir(place.env), name, kind: 'vm', digest });
  if (box.warm !== true)
    throw new TsvError('TSV_UNSUPPORTED', `machines of the box ${name} cannot start warm`, {
      details: ['nothing in it would make another machine of one that runs'],
      hint: 'docs/boxes.md says what a box has to bring',
    });
  const { templateMaker } = await import('./context.ts');
  const maker = templateMaker({ map: readUserMap(), storeDir: storeDir(place.env), kvmCheck: runKvmCheck });
  for (const shape of shapes)
    await oneStep({ do: 'box.warm', box: name }, 'asked for', emit, signal, (progress) =>
      maker.warm(shape, box, { signal, progress }),
    );
}

/** Of the Tsfile here, each that differs from the others once. */
async function shapesOf(place: Place, name: string): Promise<readonly Shape[]> {
  const project = await load(place).catch((error: unknown) => {
    if (error instanceof TsvError && error.code === 'TSV_NO_TSFILE') return undefined;
    throw error;
  });
  const machines = (project?.machines ?? []).filter(
    ({ kind, box, warm }) => kind === 'vm' && box === name && warm !== false,
  );
  const different = new Map(
    machines.map(({ memoryBytes, cpus, disks, networks, accel }) => [
      JSON.stringify([memoryBytes, cpus, disks, networks.length, accel]),
      { memoryBytes, cpus, disks, networks, accel },
    ]),
  );
  return different.size === 0 ? [usual] : [...different.values()];
}
