import type { ListedSnapshot } from '../../app/snapshot.ts';
import { formatBytes } from './size.ts';
import { type Cell, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

type Machine = ListedSnapshot['machines'][number];

/** Snapshots as a table, a row for each, with a line break at the end. */
export function renderSnapshots(snapshots: readonly ListedSnapshot[], terminal: Terminal): string {
  if (snapshots.length === 0) return 'no snapshots\n';
  const rows = snapshots.map(({ snapshot, at, machines, bytes }): Cell[] => [
    snapshot,
    at.replace('T', ' ').replace(/\.\d+Z$/, ' UTC'),
    machines.map(machineWords).join(', '),
    formatBytes(bytes),
    { text: machines.flatMap(withoutWords).join(', '), style: 'dim' },
  ]);
  return renderTable(['SNAPSHOT', 'TIME', 'MACHINES', 'SIZE', 'NOT IN IT'], rows, terminal);
}

const machineWords = ({ machine, memory, was }: Machine): string =>
  memory ? `${machine} (memory)` : was === 'stopped' ? `${machine} (stopped)` : machine;

const withoutWords = ({ machine, without }: Machine): string[] => without.map((what) => `${what} of ${machine}`);
