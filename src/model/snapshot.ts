import type { Machine } from './project.ts';
import type { MachineAddress, MachineState } from './state.ts';

/** Machines as they were at one moment: `.ts-vm/snapshots/NAME.json`, without which there is no snapshot. */
export interface Snapshot {
  readonly version: 1;
  readonly name: string;
  /** ISO 8601. */
  readonly at: string;
  readonly machines: Readonly<Record<string, SavedMachine>>;
}

export interface SavedMachine extends SavedPart {
  /** What the provider has kept it under: unique, and not the snapshot's name. */
  readonly tag: string;
  readonly was: 'running' | 'paused' | 'stopped';
  readonly spec: Machine;
  /** Of the box that it lies over. */
  readonly boxDigest: string;
  readonly addresses: readonly MachineAddress[];
  readonly steps: MachineState['steps'];
}

/** What a provider says of what it has saved. */
export interface SavedPart {
  /** Its memory is in it, and goes on. */
  readonly memory: boolean;
  /** What it takes up besides what disks share: of a virtual machine its memory. */
  readonly bytes: number;
  /** What of the machine is not in it: `volume data`. */
  readonly without: readonly string[];
  /** What the provider wants to find again. Plain JSON. */
  readonly provider: Readonly<Record<string, unknown>>;
}

/** What a snapshot may be called; `push` has names of its own. */
export const snapshotName = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

/** Names that only `push` gives. */
export const pushedPrefix = 'push-';

/** `20260131-120005`, in UTC: the name of one that was given none. */
export const stampName = (at: Date): string =>
  at
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replaceAll(/[-:]/g, '')
    .replace('T', '-');
