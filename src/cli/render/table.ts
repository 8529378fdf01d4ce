import { type Style, style, symbolsOf, type Terminal } from './terminal.ts';
import { displayWidth, harmless, padEnd, truncate } from './text.ts';

/** A cell's text is made harmless; its colour comes from here only. */
export type Cell = string | { readonly text: string; readonly style: Style };

/** Columns are not made narrower than this. */
const narrowest = 8;
const gap = '  ';

type Look = Pick<Terminal, 'isTTY' | 'columns' | 'colour' | 'unicode'>;

/**
 * Aligned columns without borders, with a line break at the end; columns that are empty in all rows are left out. On
 * a terminal the widest columns are cut until a line fits; elsewhere nothing is ever cut. An empty header: none.
 */
export function renderTable(header: readonly string[], rows: readonly (readonly Cell[])[], terminal: Look): string {
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'string' ? { text: harmless(cell) } : { ...cell, text: harmless(cell.text) })),
  );
  const used = Array.from(
    { length: Math.max(header.length, ...rows.map((row) => row.length)) },
    (_, index) => index,
  ).filter((index) => cells.some((row) => (row[index]?.text ?? '') !== ''));
  const widths = fit(
    used.map((index) =>
      Math.max(displayWidth(header[index] ?? ''), ...cells.map((row) => displayWidth(row[index]?.text ?? ''))),
    ),
    terminal,
  );
  const { ellipsis } = symbolsOf(terminal);
  const line = (textOf: (index: number) => { text: string; style?: Style }): string =>
    used
      .map((index, place) => {
        const { text, style: look } = textOf(index);
        const width = widths[place] ?? 0;
        const shown = truncate(text, width, ellipsis);
        const padded = place === used.length - 1 ? shown : padEnd(shown, width);
        return look === undefined ? padded : style(terminal, padded, look);
      })
      .join(gap)
      .trimEnd();

  const lines = cells.map((row) => line((index) => row[index] ?? { text: '' }));
  if (header.length > 0 && used.length > 0)
    lines.unshift(line((index) => ({ text: header[index] ?? '', style: 'dim' })));
  return lines.map((text) => `${text}\n`).join('');
}

/** Takes columns away from the widest until all fit into the terminal or none may become narrower. */
function fit(widths: readonly number[], { isTTY, columns }: Look): number[] {
  const fitted = [...widths];
  if (!isTTY) return fitted;
  let over = fitted.reduce((sum, width) => sum + width, 0) + gap.length * Math.max(0, fitted.length - 1) - columns;
  while (over > 0) {
    const widest = Math.max(...fitted);
    if (widest <= narrowest) break;
    fitted[fitted.indexOf(widest)] = widest - 1;
    over -= 1;
  }
  return fitted;
}
