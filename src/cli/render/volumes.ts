import type { ListedVolume } from '../../app/volumes.ts';
import { type Cell, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

const removedBy = { project: 'tsv destroy', keep: 'tsv volume rm' } as const;

/** The volumes of a project as a table, with a line break at the end. */
export function renderVolumes(volumes: readonly ListedVolume[], terminal: Terminal): string {
  if (volumes.length === 0) return 'no volumes\n';
  const rows = volumes.map(({ volume, machines, until, left, path }): Cell[] => [
    volume,
    machines.join(', '),
    removedBy[until],
    left ? { text: 'no longer in the Tsfile', style: 'yellow' } : '',
    path,
  ]);
  return renderTable(['VOLUME', 'MACHINES', 'REMOVED BY', 'NOTE', 'FOLDER'], rows, terminal);
}
