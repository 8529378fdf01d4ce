import { lstatSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { TsvError } from '../../src/model/errors.ts';
import type { Disk } from '../../src/model/project.ts';
import type { BoxRef } from '../../src/model/provider.ts';
import { isFrozenDisk } from '../../src/store/frozen.ts';
import { parseQcow2Header, type Qcow2Header, readHead } from '../../src/store/qcow2.ts';
import { mustRun } from '../../src/sys/command.ts';
import type { MachineFiles } from './files.ts';

export type BoxDisk = NonNullable<BoxRef['disk']>;

const unsafe = (file: string, why: string, hint: string, cause?: unknown): TsvError =>
  new TsvError('TSV_VM_START', `the disk ${file} is not used`, { details: [why], hint, cause });

/**
 * Refuses a box's disk that would make QEMU open another file (CVE-2024-32498, CVE-2011-3147).
 * A raw disk is only bytes, whatever they look like: its format is always said.
 * @throws TSV_VM_START
 */
export function checkBoxDisk(disk: BoxDisk): void {
  if (disk.format === 'raw') return;
  const hint = 'build the box again, or leave it: its disk asks for files outside of the box';
  const header = readHeader(disk.path, hint);
  if (header.backingFile !== undefined) throw unsafe(disk.path, `it has a backing file: ${header.backingFile}`, hint);
  if (header.externalDataFile) throw unsafe(disk.path, 'it keeps its data in another file', hint);
}

/**
 * Makes the machine's disk anew: an empty qcow2 overlay over the box's frozen one, or over a template's, which lies over that.
 * @throws TSV_VM_START, TSV_HOST_MISSING
 */
export async function makeOverlay(files: MachineFiles, disk: BoxDisk, store: string, over?: string): Promise<void> {
  checkBoxDisk(disk);
  if (over !== undefined) checkOverlay(over, disk, store);
  const base = over === undefined ? disk : { path: over, format: 'qcow2' };
  rmSync(files.disk, { force: true });
  await createImage(files.disk, ['-F', base.format, '-b', base.path], disk.virtualBytes);
}

/** Deeper than any number of provisioning steps that follow one another. */
const deepest = 64;

/**
 * Checks that a machine's disk is an overlay that we made: a project folder may come from anybody.
 * @param store whose templates and layers of the provision cache have disks that it may lie over, too, as theirs over each other's
 * @returns the files that it lies over, the next first
 * @throws TSV_VM_START when it has another base, or data outside.
 */
export function checkOverlay(file: string, disk: BoxDisk, store?: string, depth = 0): readonly string[] {
  const hint = "'tsv destroy' and 'tsv up' make a new disk";
  const header = readHeader(file, hint);
  if (header.externalDataFile) throw unsafe(file, 'it keeps its data in another file', hint);
  const { backingFile, backingFormat } = header;
  if (backingFile === disk.path && backingFormat === disk.format) return [disk.path];
  if (store !== undefined && backingFile !== undefined && backingFormat === 'qcow2' && depth < deepest) {
    if (isFrozenDisk(backingFile, store)) {
      return [backingFile, ...checkOverlay(backingFile, disk, store, depth + 1)];
    }
  }
  const found = `${backingFile ?? 'nothing'} (${backingFormat ?? 'no format'})`;
  throw unsafe(file, `it lies over ${found}, not over the box's ${disk.path} (${disk.format})`, hint);
}

/** Makes the data disks that are not there and grows those that are too small. Never shrinks one. */
export async function ensureDataDisks(files: MachineFiles, disks: readonly Disk[]): Promise<void> {
  if (disks.length > 0) mkdirSync(files.disks, { recursive: true, mode: 0o700 });
  for (const disk of disks) {
    const file = files.dataDisk(disk);
    if (!exists(file)) await createImage(file, [], disk.sizeBytes);
    else if (checkDataDisk(file).virtualBytes < disk.sizeBytes) {
      await mustRun(['qemu-img', 'resize', '-q', '-f', 'qcow2', file, String(disk.sizeBytes)], {
        code: 'TSV_VM_START',
        message: `the disk ${file} could not be grown to ${disk.sizeBytes} bytes`,
        hint: 'halt the machine first if it runs; look at the free space with df',
      });
    }
  }
}

/** @throws TSV_VM_START unless it is a qcow2 image that stands alone. */
export function checkDataDisk(file: string): Qcow2Header {
  const hint = "'tsv destroy' and 'tsv up' make new disks";
  const header = readHeader(file, hint);
  if (header.backingFile !== undefined || header.externalDataFile) throw unsafe(file, 'it asks for another file', hint);
  return header;
}

/** A file has its final name only when it is complete. */
export async function createImage(file: string, options: readonly string[], virtualBytes: number): Promise<void> {
  const staging = `${file}.new`;
  rmSync(staging, { force: true });
  await mustRun(['qemu-img', 'create', '-q', '-f', 'qcow2', ...options, staging, String(virtualBytes)], {
    code: 'TSV_VM_START',
    message: `the disk ${file} could not be made`,
    hint: `look at the free space with: df ${file}`,
  });
  renameSync(staging, file);
}

function readHeader(file: string, hint: string): Qcow2Header {
  let header: Qcow2Header | undefined;
  try {
    header = parseQcow2Header(readHead(file));
  } catch (cause) {
    throw unsafe(file, cause instanceof Error ? cause.message : String(cause), hint, cause);
  }
  if (header === undefined) throw unsafe(file, 'it is no qcow2 image', hint);
  return header;
}

const exists = (file: string): boolean => lstatSync(file, { throwIfNoEntry: false }) !== undefined;
