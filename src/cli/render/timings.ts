import type { Timed, Timings } from '../../model/timings.ts';
import { renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';
import { formatDuration } from './text.ts';
import { wordsOf } from './words.ts';

/** A table of what took how long, and under it what of that came one after the other. */
export function renderTimings({ phases, criticalMs, wallMs }: Timings, terminal: Terminal): string {
  const rows = phases.flatMap((phase) => [
    [...namesOf(phase), precise(phase.ms), phase.critical ? '*' : ''],
    ...phase.parts.map(({ what, ms }) => ['', `  ${what}`, precise(ms), '']),
  ]);
  const table = renderTable(['WHERE', 'WHAT', 'TOOK', 'CRITICAL'], rows, terminal);
  return `${table}Critical path: ${precise(criticalMs)} of ${precise(wallMs)}\n`;
}

function namesOf(phase: Timed): readonly [string, string] {
  if ('what' in phase) return ['tsv', phase.what];
  const { row, todo } = wordsOf(phase.action);
  return [row, phase.outcome === 'done' ? todo : `${todo} (${phase.outcome})`];
}

/** A second and more as everywhere, less than that in milliseconds. */
const precise = (ms: number): string => (ms < 999.5 ? `${Math.round(ms)}ms` : formatDuration(ms));
