import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { MachineFiles } from './files.ts';

/** What decides which devices a machine's QEMU has, beside its spec: whoever takes its state over needs the same. */
export interface Shape {
  /** That it was started with; more may have been plugged since. */
  readonly cpus: number;
  readonly balloon: boolean;
}

/** Remembers what QEMU is about to be started with. */
export function writeShape({ shape: file }: Pick<MachineFiles, 'shape'>, shape: Shape): void {
  writeFileSync(`${file}.new`, `${JSON.stringify(shape)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Of the last start; undefined: it is not known, as of a machine that an earlier version started. */
export function readShape({ shape: file }: Pick<MachineFiles, 'shape'>): Shape | undefined {
  try {
    const { cpus, balloon } = JSON.parse(readFileSync(file, 'utf8')) as Partial<Shape>;
    return typeof cpus === 'number' && typeof balloon === 'boolean' ? { cpus, balloon } : undefined;
  } catch {
    return undefined;
  }
}
