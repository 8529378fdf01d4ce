import { summary } from './measure.mjs';

const heads = ['what', 'tsv', 'beside it', 'takes', 'ratio', 'wanted', 'rounds'];

/**
 * @param {readonly { what: string, unit?: 'MiB' | 'times', ours: readonly number[], peer: string, theirs?: readonly number[], target?: number }[]} rows
 * times in ms, unless another unit is said; without `theirs` the peer was not there
 * @returns a Markdown table that also reads well on a terminal
 */
export function printTable(rows) {
  const cells = rows.map(({ what, unit, ours, peer, theirs, target }) => {
    const print = unit === undefined ? printTime : printAmount(unit);
    const mine = summary(ours);
    const other = theirs === undefined ? undefined : summary(theirs);
    return [
      what,
      print(mine),
      peer,
      other === undefined ? 'not there' : print(other),
      other === undefined || other.median === 0 ? '' : (mine.median / other.median).toFixed(2),
      target === undefined ? '' : `≤ ${target}`,
      String(mine.count),
    ];
  });
  const widths = heads.map((head, column) =>
    Math.max(...[head, ...cells.map((row) => row[column])].map((cell) => cell.length)),
  );
  const line = (row) => `| ${row.map((cell, column) => cell.padEnd(widths[column])).join(' | ')} |`;
  return [line(heads), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...cells.map(line)].join('\n');
}

/** Median, and the least and the most: `84 ms (80-97)`, `13.9 s (13.6-14.8)`. */
function printTime({ median, min, max }) {
  const seconds = median >= 2000;
  const number = (ms) => (seconds ? (ms / 1000).toFixed(1) : ms.toFixed(0));
  return `${number(median)} ${seconds ? 's' : 'ms'} (${number(min)}-${number(max)})`;
}

const printAmount =
  (unit) =>
  ({ median, min, max }) =>
    `${median.toFixed(1)} ${unit} (${min.toFixed(1)}-${max.toFixed(1)})`;
