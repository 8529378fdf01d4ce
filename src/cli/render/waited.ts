import type { Condition, Waited } from '../../model/waiting.ts';
import { harmless } from './text.ts';

/** A line for each machine that is not what was waited for, with what it is instead; a line break after each. */
export const renderWaited = (waited: readonly Waited[], condition: Condition): string =>
  waited
    .filter(({ met }) => !met)
    .map(({ machine, is }) => `${harmless(machine)} is not ${condition}: ${harmless(is)}\n`)
    .join('');
