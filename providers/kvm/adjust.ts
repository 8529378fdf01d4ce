import { availableParallelism } from 'node:os';
import { TsvError } from '../../src/model/errors.ts';
import type { Machine } from '../../src/model/project.ts';
import type { Transport } from '../../src/model/provider.ts';
import type { RunLimits } from '../../src/model/state.ts';
import { availableBytes, balloonBytes, balloonTo } from './balloon.ts';
import { bringCpusUp, cpuSlots, plugCpus } from './cpus.ts';
import { asObject, type Qmp, QmpError } from './qmp.ts';
import { errorText } from './text.ts';

/** Each place costs the guest some 200 KB, and more than the host has are of no use. */
export const placesForCpus = (cpus: number, host = availableParallelism()): number => Math.max(cpus, Math.min(host, 8));

/** What a running QEMU can have. */
export async function mostOf(qmp: Qmp): Promise<RunLimits> {
  const cpus = (await cpuSlots(qmp)).length;
  try {
    await balloonBytes(qmp);
  } catch (error) {
    if (error instanceof QmpError && error.errorClass !== undefined) return { cpus };
    throw error;
  }
  const memory = asObject(await qmp.execute('query-memory-size-summary'));
  return { memoryBytes: Number(memory['base-memory']), cpus };
}

const mebibyte = 2 ** 20;
/** As the machine is started with it: whole mebibytes. */
const memoryOf = ({ memoryBytes }: Machine): number => Math.ceil(memoryBytes / mebibyte) * mebibyte;

/** What a guest is left with at least, that it does not use: without any it is busy with nothing but its memory. */
const spareBytes = (target: number): number => Math.max(32 * mebibyte, target / 16);

/**
 * @throws TSV_CGROUP where the guest needs the memory: all is as before then; TSV_UNSUPPORTED where QEMU or the guest does not
 * take a CPU, and what `connect` throws: its memory is as before; the signal's reason
 */
export async function adjustVm(
  qmp: Qmp,
  before: Machine,
  wanted: Machine,
  { connect, signal, notice }: { connect(): Promise<Transport>; signal: AbortSignal; notice(text: string): void },
): Promise<void> {
  const target = memoryOf(wanted);
  if (wanted.memoryBytes < before.memoryBytes) await requireSpare(qmp, before, target, signal);
  if (wanted.cpus > before.cpus) await addCpus(qmp, wanted, connect);
  if (wanted.memoryBytes === before.memoryBytes) return;
  const actual = await balloonTo(qmp, target, signal);
  if (actual > target) notice(stillHas(wanted.name, actual, target));
}

async function requireSpare(qmp: Qmp, before: Machine, target: number, signal: AbortSignal): Promise<void> {
  const { name } = before;
  const available = await availableBytes(qmp, signal);
  if (available === undefined) return; // then it will not give any either, and that is said
  const has = await balloonBytes(qmp);
  const least = has - available + spareBytes(target);
  if (target >= least) return;
  throw new TsvError('TSV_CGROUP', `${name} cannot do with ${inMebibytes(target)} of memory as it runs`, {
    details: [
      `its system uses ${inMebibytes(has - available)}, so ${inMebibytes(least)} is the least now`,
      `it runs on as before, with ${inMebibytes(memoryOf(before))}`,
    ],
    hint: `tsv top ${name}   # what uses it\ntsv reload ${name}   # starts it anew with less`,
  });
}

/** What to say of a guest that has more memory than it is asked to keep. Bytes. */
export const stillHas = (name: string, actual: number, target: number): string =>
  `${name} still has ${inMebibytes(actual)} of memory, not ${inMebibytes(target)}: its system gives the rest back when it can`;

const inMebibytes = (bytes: number): string => `${Math.ceil(bytes / mebibyte)}M`;

/** Lets a guest have the memory that it is known to have. @throws QmpError where there is no balloon */
export async function restoreMemory(qmp: Qmp, machine: Machine): Promise<void> {
  await qmp.execute('balloon', { value: memoryOf(machine) });
}

async function addCpus(qmp: Qmp, { name, cpus }: Machine, connect: () => Promise<Transport>): Promise<void> {
  const refused = (why: string, cause?: unknown) =>
    new TsvError('TSV_UNSUPPORTED', `${name} did not take ${cpus} CPUs as it runs`, {
      details: [why],
      hint: `tsv reload ${name}   # starts it with them`,
      cause,
    });
  try {
    await plugCpus(qmp, cpus);
  } catch (error) {
    throw refused(errorText(error), error);
  }
  const transport = await connect();
  try {
    const why = await bringCpusUp(transport, cpus);
    if (why !== undefined) throw refused(why);
  } finally {
    transport.close();
  }
}
