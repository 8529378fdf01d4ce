import { TsvError } from '../model/errors.ts';
import { Mismatch } from './check.ts';

/** The version that this tsv writes: `State.version`. */
export const currentVersion = 1;

/** Turns a state of version N into one of version N + 1. Pure; looks at nothing but the value. */
export type Upgrade = (state: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;

/** By the version that they start from. Version 1 is the first, so there is none yet. */
export const upgrades: ReadonlyMap<number, Upgrade> = new Map();

/**
 * Brings a parsed state file to the current version, one upgrader after the other.
 * @throws TSV_STATE_NEWER when a newer tsv wrote it; {@link Mismatch} when it has no version or one without upgrader
 */
export function upgrade(
  value: unknown,
  file: string,
  current: number = currentVersion,
  table: ReadonlyMap<number, Upgrade> = upgrades,
): unknown {
  if (typeof value !== 'object' || value === null) throw new Mismatch('', 'not an object');
  let state: Readonly<Record<string, unknown>> = { ...value };
  const version = state.version;
  if (typeof version !== 'number' || !Number.isSafeInteger(version)) throw new Mismatch('version', 'not a number');
  if (version > current) {
    throw new TsvError('TSV_STATE_NEWER', `${file} was written by a newer tsv`, {
      details: [`its version is ${version}; this tsv knows versions up to ${current}`],
      hint: 'use the newer tsv for this project: npm install -g ts-vm@latest',
    });
  }
  for (let from = version; from < current; from++) {
    const step = table.get(from);
    if (step === undefined) throw new Mismatch('version', `${from} is none that any tsv wrote`);
    state = { ...step(state), version: from + 1 };
  }
  return state;
}
