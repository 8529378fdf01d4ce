import type { Row } from './board.ts';
import { type Style, style, symbolsOf, type Terminal } from './terminal.ts';
import { displayWidth, formatDuration, padEnd, truncate } from './text.ts';

/** Lines of output below a machine while its step runs. */
const liveTail = 3;

export interface FrameSize {
  readonly columns: number;
  readonly rows: number;
}

type Look = Pick<Terminal, 'colour' | 'unicode'>;

/**
 * The rows as lines, fewer than the terminal is high and narrower than it is wide, so that nothing scrolls or wraps.
 * When not all fit, those that run or failed are shown and the others counted.
 * @param turn which picture of the spinner
 */
export function liveFrame(rows: readonly Row[], size: FrameSize, look: Look, turn: number): string[] {
  const room = Math.max(1, size.rows - 1);
  const shown = rows.length <= room ? rows : mostTelling(rows, room - 1);
  const hidden = rows.filter((row) => !shown.includes(row));
  const tails = shareLines(shown, room - shown.length - (hidden.length === 0 ? 0 : 1));
  const lines = drawRows(
    shown,
    (row) => row.tail.slice(row.tail.length - (tails.get(row) ?? 0)),
    size.columns,
    look,
    turn,
  );
  if (hidden.length > 0) {
    lines.push(
      style(
        look,
        truncate(`  ${summary(hidden, shown.length > 0)}`, size.columns - 1, symbolsOf(look).ellipsis),
        'dim',
      ),
    );
  }
  return lines;
}

/**
 * All rows, whatever the terminal's height, each failed one with the output of its step, unless `isShownLater`.
 * A row that is not over was left behind when the command ended.
 */
export function finalFrame(
  rows: readonly Row[],
  columns: number,
  look: Look,
  isShownLater: (row: Row) => boolean,
): string[] {
  const tail = (row: Row): readonly string[] => (row.state === 'failed' && !isShownLater(row) ? row.tail : []);
  const ended = rows.map((row): Row => {
    if (row.state === 'running') return { ...row, state: 'cancelled', text: `interrupted: ${row.text}` };
    return row.state === 'waiting'
      ? { ...row, state: 'skipped', text: row.ms === undefined ? 'not begun' : 'not finished' }
      : row;
  });
  return drawRows(ended, tail, columns, look, 0);
}

/** The failed ones first, then the running ones, in the order of the plan. */
function mostTelling(rows: readonly Row[], room: number): Row[] {
  const failed = rows.filter(({ state }) => state === 'failed');
  const running = rows.filter(({ state }) => state === 'running');
  const chosen = new Set([...failed, ...running].slice(0, Math.max(0, room)));
  return rows.filter((row) => chosen.has(row));
}

/** Gives free lines to the output of running machines, one each in turn, and what is left to that of failed ones. */
function shareLines(rows: readonly Row[], free: number): Map<Row, number> {
  const shares = new Map<Row, number>();
  let left = Math.max(0, free);
  const grant = (row: Row): void => {
    const share = shares.get(row) ?? 0;
    if (left === 0 || share >= row.tail.length) return;
    shares.set(row, share + 1);
    left -= 1;
  };
  const running = rows.filter(({ state }) => state === 'running');
  for (let line = 0; line < liveTail; line += 1) for (const row of running) grant(row);
  for (const row of rows) if (row.state === 'failed') for (let line = 0; line < row.tail.length; line += 1) grant(row);
  return shares;
}

function drawRows(
  rows: readonly Row[],
  tailOf: (row: Row) => readonly string[],
  columns: number,
  look: Look,
  turn: number,
): string[] {
  const { ellipsis } = symbolsOf(look);
  const width = columns - 1; // the last column is left free: a line that fills it may wrap
  const nameWidth = Math.min(
    Math.max(...rows.map(({ name }) => displayWidth(name)), 0),
    Math.max(8, Math.floor(columns / 3)),
  );
  const finished = rows.filter(({ state }) => state === 'done').map(({ text }) => displayWidth(text));
  const textWidth = Math.max(...finished, 0);
  return rows.flatMap((row) => {
    const { symbol, symbolStyle, textStyle } = appearance(row, look, turn);
    const name = padEnd(truncate(row.name, nameWidth, ellipsis), nameWidth);
    const time = row.ms === undefined || row.state === 'skipped' ? '' : formatDuration(row.ms);
    const start = 2 + nameWidth + 2;
    const text = padEnd(truncate(row.text, width - start - (time === '' ? 0 : time.length + 2), ellipsis), textWidth);
    const parts = [
      `${style(look, symbol, symbolStyle)} ${row.state === 'waiting' || row.state === 'skipped' ? style(look, name, 'dim') : name}`,
      textStyle === undefined ? text : style(look, text, textStyle),
      style(look, time, 'dim'),
    ];
    const line = parts
      .filter((part) => part !== '')
      .join('  ')
      .trimEnd();
    const tail = tailOf(row).map((output) =>
      style(look, truncate(`${' '.repeat(4)}${output}`, width, ellipsis), 'dim'),
    );
    return [truncate(line, width, ellipsis), ...tail];
  });
}

function appearance(row: Row, look: Look, turn: number): { symbol: string; symbolStyle: Style; textStyle?: Style } {
  const symbols = symbolsOf(look);
  switch (row.state) {
    case 'done':
      return { symbol: symbols.done, symbolStyle: 'green' };
    case 'failed':
      return { symbol: symbols.failed, symbolStyle: 'red', textStyle: 'red' };
    case 'skipped':
      return { symbol: symbols.skipped, symbolStyle: 'dim', textStyle: 'dim' };
    case 'cancelled':
      return { symbol: symbols.skipped, symbolStyle: 'yellow', textStyle: 'yellow' };
    case 'waiting':
      return { symbol: symbols.waiting, symbolStyle: 'dim', textStyle: 'dim' };
    case 'running':
      return { symbol: symbols.spinner[turn % symbols.spinner.length] ?? symbols.waiting, symbolStyle: 'cyan' };
  }
}

/** `3 more running, 31 done, 12 waiting` */
function summary(rows: readonly Row[], more: boolean): string {
  const states = ['failed', 'running', 'done', 'skipped', 'cancelled', 'waiting'] as const;
  return states
    .map((state) => ({ state, amount: rows.filter((row) => row.state === state).length }))
    .filter(({ amount }) => amount > 0)
    .map(
      ({ state, amount }) => `${amount} ${more && (state === 'failed' || state === 'running') ? 'more ' : ''}${state}`,
    )
    .join(', ');
}
