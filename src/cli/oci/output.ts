import { TsvError } from '../../model/errors.ts';
import type { ListedContainer, ShownState } from '../../oci/runtime/index.ts';

/** A container as `list` prints it; `owner` is a user's name. */
export type ListRow = Omit<ListedContainer, 'owner'> & { readonly owner: string };

export type OutputFormat = 'table' | 'json';

/** @throws TSV_USAGE */
export function readFormat(text = 'table'): OutputFormat {
  if (text === 'table' || text === 'json') return text;
  throw new TsvError('TSV_USAGE', `invalid format option: ${JSON.stringify(text)}`, { hint: 'table or json' });
}

/** Columns of 12 characters or more, three of them free, as runc's callers know them. */
export function listTable(rows: readonly ListRow[]): string {
  const cells = [
    ['ID', 'PID', 'STATUS', 'BUNDLE', 'CREATED', 'OWNER'],
    ...rows.map(({ id, pid, status, bundle, created, owner }) => [id, String(pid), status, bundle, created, owner]),
  ];
  const width = (column: number) => Math.max(12, ...cells.map((row) => (row[column] ?? '').length + 3));
  const widths = cells[0]?.map((_, column) => width(column)) ?? [];
  return cells
    .map((row) => `${row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('')}\n`)
    .join('');
}

export const listIds = (rows: readonly ListRow[]): string => rows.map(({ id }) => `${id}\n`).join('');

export const listJson = (rows: readonly ListRow[]): string => `${JSON.stringify(rows)}\n`;

/** runtime.md, "State", with what runc adds to it: pid is 0 when nothing runs, and the owner is in `list` only. */
export function stateJson(state: ShownState): string {
  const { ociVersion, id, pid = 0, status, bundle, rootfs, created, annotations } = state;
  return `${JSON.stringify({ ociVersion, id, pid, status, bundle, rootfs, created, annotations, owner: '' }, undefined, 2)}\n`;
}

/**
 * Of what ps(1) prints, the title and the lines of these processes.
 * @throws TSV_USAGE when there is no column PID
 */
export function psTable(printed: string, pids: readonly number[]): string {
  const [title = '', ...lines] = printed.split('\n').filter((line) => line !== '');
  const column = title.trim().split(/\s+/).indexOf('PID');
  if (column < 0) {
    throw new TsvError('TSV_USAGE', "couldn't find PID field in ps output", {
      details: [`the first line is ${JSON.stringify(title)}`],
    });
  }
  const wanted = new Set(pids.map(String));
  const shown = lines.filter((line) => wanted.has(line.trim().split(/\s+/)[column] ?? ''));
  return `${[title, ...shown].join('\n')}\n`;
}
