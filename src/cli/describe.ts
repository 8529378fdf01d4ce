import { type Command, InvalidArgumentError, type Option } from 'commander';
import { parseDuration } from '../config/units.ts';
import type { Handler } from './program.ts';

/** What a group of commands is described with; see program.ts. */
export interface Describe {
  readonly program: Command;
  /** The one command that is asked for; absent: all are described. */
  readonly only: string | undefined;
  /** Describes a command when it is needed: when it is the one that is asked for, or for help on all. */
  when(name: string, describe: () => Command): void;
  define(name: string, description: string, load: () => Promise<Handler<never>>): Command;
  /** Adds `[names...]`: machines or replica groups. */
  names(command: Command): Command;
  readonly json: Option;
  readonly parallel: Option;
  readonly timings: Option;
}

/** Milliseconds, for an option. */
export const duration = (text: string): number => {
  const ms = parseDuration(text);
  if (ms === undefined || ms === 0) throw new InvalidArgumentError('a duration, such as 500ms, 30s or 1m30s');
  return ms;
};

/** For an option or argument. */
export const wholeNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number, 1 or more');
  return value;
};

/** For an option: a time, in seconds; fractions are allowed. */
export const seconds = (text: string): number => {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!Number.isFinite(value) || value < 0 || value > 1e6) throw new InvalidArgumentError('seconds, 0 or more');
  return value;
};
