import { existsSync, statfsSync, writeFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { TsvError } from '../../src/model/errors.ts';
import type { MachineContext, Snapshots } from '../../src/model/provider.ts';
import { mustRun } from '../../src/sys/command.ts';
import type { AccelChooser } from './accel.ts';
import { deviceLayout, escapeValue } from './arguments.ts';
import { balloonBytes } from './balloon.ts';
import { cpuSlots, plugCpus } from './cpus.ts';
import { checkDataDisk, checkOverlay } from './disk.ts';
import { machineFiles } from './files.ts';
import { runJob } from './jobs.ts';
import type { Lifecycle } from './lifecycle.ts';
import { asObject, type Qmp, QmpError } from './qmp.ts';
import { errorText } from './text.ts';

/*
 * Snapshots of virtual machines are QEMU's own, inside the qcow2 files of the disks: what the disks held, and in the first of
 * them the memory and the state of the devices.
 */

/** The shape of a QEMU whose memory was saved: only one of the same shape can load it. */
export interface Shape {
  /** See {@link deviceLayout}. */
  readonly layout: number;
  /** With its version: `pc-q35-7.2`. */
  readonly machineType: string;
  readonly accel: 'kvm' | 'tcg';
  /** Of the host, where the guest has seen it. */
  readonly cpuModel?: string;
  /** With how many CPUs it was started, how many it had, and for how many there was room. */
  readonly bootCpus: number;
  readonly cpus: number;
  readonly mostCpus: number;
  readonly memoryBytes: number;
  readonly balloon: boolean;
}

export async function shapeOf(qmp: Qmp, cpuModel: string): Promise<Shape> {
  const type = String(await qmp.execute('qom-get', { path: '/machine', property: 'type' }));
  const memory = asObject(await qmp.execute('query-memory-size-summary'));
  const kvm = asObject(await qmp.execute('query-kvm')).enabled === true;
  const slots = await cpuSlots(qmp);
  return {
    layout: deviceLayout,
    machineType: type.replace(/-machine$/, ''),
    accel: kvm ? 'kvm' : 'tcg',
    ...(kvm ? { cpuModel } : {}),
    bootCpus: slots.filter(({ atStart }) => atStart).length,
    cpus: slots.filter(({ taken }) => taken).length,
    mostCpus: slots.length,
    memoryBytes: Number(memory['base-memory']),
    balloon: await hasBalloon(qmp),
  };
}

async function hasBalloon(qmp: Qmp): Promise<boolean> {
  try {
    await balloonBytes(qmp);
    return true;
  } catch (error) {
    if (error instanceof QmpError && error.errorClass !== undefined) return false;
    throw error;
  }
}

/** What was kept, checked: it becomes part of a command line, and a project's folder may come from anywhere. @throws TSV_SNAPSHOT */
export function shapeIn(kept: Readonly<Record<string, unknown>>): Shape {
  const { layout, machineType, accel, cpuModel, bootCpus, cpus, mostCpus, memoryBytes, balloon } = kept;
  const numbers = [layout, bootCpus, cpus, mostCpus, memoryBytes];
  if (
    typeof machineType === 'string' &&
    /^[A-Za-z0-9._+-]+$/.test(machineType) &&
    (accel === 'kvm' || accel === 'tcg') &&
    typeof balloon === 'boolean' &&
    numbers.every((value) => Number.isSafeInteger(value) && Number(value) > 0)
  ) {
    return {
      layout: Number(layout),
      machineType,
      accel,
      ...(typeof cpuModel === 'string' ? { cpuModel } : {}),
      bootCpus: Number(bootCpus),
      cpus: Number(cpus),
      mostCpus: Number(mostCpus),
      memoryBytes: Number(memoryBytes),
      balloon,
    };
  }
  throw new TsvError('TSV_SNAPSHOT', 'what was kept of a virtual machine’s shape is not valid', {
    hint: 'delete the snapshot; tsv halt throws the memory of a suspended machine away',
  });
}

/** Fills the machine's QEMU, of that shape, whose CPUs stand still; they do so afterwards, too. @throws QmpError */
export async function loadMemory(context: MachineContext, qmp: Qmp, tag: string, shape: Shape): Promise<void> {
  await plugCpus(qmp, shape.cpus);
  await runJob(qmp, 'snapshot-load', tag, { tag, vmstate: firstDisk, devices: await diskNodes(qmp) });
  // It may have been saved before it had settled; it knows.
  if (context.box.warm === true) writeFileSync(machineFiles(context).unsettled, '');
}

/** One that went on from a template still leaves its memory out, and then only its like could load what is saved. */
async function migrateWhole(qmp: Qmp): Promise<void> {
  const shared = { capability: 'x-ignore-shared', state: false };
  await qmp.execute('migrate-set-capabilities', { capabilities: [shared] });
}

export const notLoaded = (name: string, error: unknown): TsvError =>
  new TsvError('TSV_SNAPSHOT', `${name}: QEMU does not take its memory back`, {
    details: [errorText(error)],
    hint: `tsv snapshot restore --disks-only does without it; where it was suspended, tsv halt ${name} throws it away`,
    cause: error,
  });

const firstDisk = 'disk0';

interface DiskNode {
  readonly node: string;
  readonly tags: readonly { readonly tag: string; readonly memoryBytes: number }[];
}

/** The disks of a machine that runs, by QEMU's names. */
async function openDisks(qmp: Qmp): Promise<readonly DiskNode[]> {
  const nodes = await qmp.execute('query-named-block-nodes', { flat: true });
  return (Array.isArray(nodes) ? nodes : []).flatMap((entry) => {
    const node = asObject(entry);
    const name = String(node['node-name']);
    return /^disk\d+$/.test(name) ? [{ node: name, tags: tagsOf(asObject(node.image)) }] : [];
  });
}

const diskNodes = async (qmp: Qmp): Promise<string[]> => (await openDisks(qmp)).map(({ node }) => node);

/** Of QEMU's ImageInfo (qapi/block-core.json). */
const tagsOf = ({ snapshots }: Readonly<Record<string, unknown>>): DiskNode['tags'] =>
  (Array.isArray(snapshots) ? snapshots : []).map((entry) => {
    const { name, 'vm-state-size': size } = asObject(entry);
    return { tag: String(name), memoryBytes: Number(size) };
  });

/** The disk of a machine that does not run, as qemu-img is to open it: never guessing. */
export const closedDisk = (file: string): ClosedDisk => ({
  file,
  options: `driver=qcow2,file.driver=file,file.filename=${escapeValue(file)}`,
});

interface ClosedDisk {
  readonly file: string;
  readonly options: string;
}

/** Never through what somebody else made. */
function closedDisksOf(context: MachineContext, store: string): readonly ClosedDisk[] {
  const files = machineFiles(context);
  const { disk } = context.box;
  if (disk === undefined || !existsSync(files.disk)) return [];
  checkOverlay(files.disk, disk, store);
  const data = context.machine.disks.map((one) => files.dataDisk(one)).filter((file) => existsSync(file));
  for (const file of data) checkDataDisk(file);
  return [files.disk, ...data].map(closedDisk);
}

async function image(file: string, ...argv: readonly string[]): Promise<string> {
  const { stdout } = await mustRun(['qemu-img', ...argv], {
    code: 'TSV_SNAPSHOT',
    message: `the disk ${file} could not be worked on`,
    hint: `look at the free space with: df -h ${file}`,
  });
  return stdout;
}

export const closedTags = async ({ file, options }: ClosedDisk): Promise<DiskNode['tags']> =>
  tagsOf(asObject(JSON.parse(await image(file, 'info', '--output=json', '--image-opts', options))));

/** @param store the per-user store, which has the templates that disks may lie over */
export function createSnapshots(lifecycle: Lifecycle, accel: AccelChooser, store: string): Snapshots {
  const closedDisks = (context: MachineContext) => closedDisksOf(context, store);
  /** QEMU's control socket, where it runs. */
  const running = async (context: MachineContext): Promise<Qmp | undefined> => {
    const observed = await lifecycle.observe(context);
    return observed.state === 'running' ? (await lifecycle.attached(context)).qmp : undefined;
  };

  const tagsOfDisks = async (context: MachineContext): Promise<readonly DiskNode['tags'][]> => {
    const qmp = await running(context);
    if (qmp !== undefined) return (await openDisks(qmp)).map(({ tags }) => tags);
    const all: DiskNode['tags'][] = [];
    for (const disk of closedDisks(context)) all.push(await closedTags(disk));
    return all;
  };

  const remove = async (context: MachineContext, tag: string): Promise<void> => {
    const qmp = await running(context);
    if (qmp !== undefined) {
      const having = (await openDisks(qmp)).filter(({ tags }) => tags.some((one) => one.tag === tag));
      if (having.length > 0)
        await runJob(qmp, 'snapshot-delete', tag, { tag, devices: having.map(({ node }) => node) });
      return;
    }
    for (const disk of closedDisks(context))
      if ((await closedTags(disk)).some((one) => one.tag === tag))
        await image(disk.file, 'snapshot', '-q', '-d', tag, '--image-opts', disk.options);
  };

  return {
    async save(context, tag) {
      const { name } = context.machine;
      const qmp = await running(context);
      if (qmp === undefined) {
        for (const { file, options } of closedDisks(context))
          await image(file, 'snapshot', '-q', '-c', tag, '--image-opts', options);
        return { memory: false, bytes: 0, without: [], provider: {} };
      }
      const { disk } = machineFiles(context);
      await requireRoom(name, disk, qmp);
      const shape = await shapeOf(qmp, accel.facts().cpuModel);
      await migrateWhole(qmp);
      try {
        await runJob(qmp, 'snapshot-save', tag, { tag, vmstate: firstDisk, devices: await diskNodes(qmp) });
      } catch (error) {
        throw new TsvError('TSV_SNAPSHOT', `${name}: its memory could not be saved`, {
          details: [errorText(error)],
          hint: `look at the free space with: df -h ${disk}`,
          cause: error,
        });
      }
      const saved = (await openDisks(qmp)).flatMap(({ tags }) => tags).filter((one) => one.tag === tag);
      const bytes = Math.max(0, ...saved.map(({ memoryBytes }) => memoryBytes));
      return { memory: true, bytes, without: [], provider: { ...shape } };
    },

    async problem(context, { tag, memory, provider }) {
      const disks = await tagsOfDisks(context);
      if (disks.length === 0 || !disks.some((tags) => tags.some((one) => one.tag === tag)))
        return 'its disk does not have it';
      if (!memory) return undefined;
      const shape = shapeIn(provider);
      if (shape.layout !== deviceLayout)
        return 'its memory is of a machine with other devices, of another version of tsv';
      if (shape.accel === 'kvm') {
        const { cpuModel } = accel.facts();
        if (cpuModel !== shape.cpuModel)
          return `its memory is of a machine with the CPU ${shape.cpuModel}, and this host has ${cpuModel}`;
        try {
          await accel.choose('kvm', undefined);
        } catch {
          return 'its memory is of a machine that ran on KVM, which is not usable here';
        }
      }
      return undefined;
    },

    async rewind(context, { tag, provider }) {
      const qmp = await running(context);
      if (qmp === undefined) return false;
      const shape = shapeIn(provider);
      const isSame = isDeepStrictEqual(await shapeOf(qmp, accel.facts().cpuModel), shape);
      if (!isSame || !(await openDisks(qmp)).every(({ tags }) => tags.some((one) => one.tag === tag))) return false;
      await qmp.execute('stop');
      await migrateWhole(qmp);
      await loadMemory(context, qmp, tag, shape);
      return true;
    },

    async restore(context, tag) {
      for (const disk of closedDisks(context)) {
        // One that was added since is not used by what the machine was.
        if (!(await closedTags(disk)).some((one) => one.tag === tag)) continue;
        await image(disk.file, 'snapshot', '-q', '-a', tag, '--image-opts', disk.options);
      }
    },

    async tags(context) {
      const all = (await tagsOfDisks(context)).flatMap((tags) => tags.map(({ tag }) => tag));
      return [...new Set(all)];
    },

    delete: remove,
  };
}

/** Without room QEMU fails in the middle, and the guest's next write fails with it. @throws TSV_SNAPSHOT */
async function requireRoom(name: string, disk: string, qmp: Qmp): Promise<void> {
  const needed = await balloonBytes(qmp).catch(async () =>
    Number(asObject(await qmp.execute('query-memory-size-summary'))['base-memory']),
  );
  const { bavail, bsize } = statfsSync(disk);
  if (bavail * bsize > needed + spareBytes) return;
  throw new TsvError('TSV_SNAPSHOT', `${name}: there is no room for its memory`, {
    details: [`it has up to ${inMebibytes(needed)}, and ${inMebibytes(bavail * bsize)} are free where ${disk} is`],
    hint: `make room (df -h ${disk}), or save it without memory: tsv halt ${name} first`,
  });
}

const spareBytes = 64 << 20;

const inMebibytes = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)}M`;
