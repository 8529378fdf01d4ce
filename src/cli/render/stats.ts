import type { Usage } from '../../app/usage.ts';
import { formatBytes, formatMemory } from './size.ts';
import { renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

const header = ['MACHINE', 'CPU %', 'MEMORY', 'LIMIT', 'PIDS', 'NET IN', 'NET OUT', 'READ', 'WRITTEN'];
/** Of the numbers, so that no column jumps from one second to the next; with a short name they fit into 80 columns. */
const widths = [7, 8, 8, 5, 7, 7, 7, 7];

/** One sample as a table, its numbers set flush right; with a line break at the end. */
export function renderStats(usages: readonly Usage[], terminal: Terminal): string {
  const right = (texts: readonly string[]): string[] => texts.map((text, index) => text.padStart(widths[index] ?? 0));
  const rows = usages.map((usage) => [
    usage.machine,
    ...right([
      percent(usage.cpuPercent),
      formatMemory(usage.memoryBytes),
      formatMemory(usage.memoryLimitBytes),
      usage.pids === undefined ? '-' : String(usage.pids),
      formatBytes(usage.network.receivedBytes),
      formatBytes(usage.network.sentBytes),
      formatBytes(usage.disk.readBytes),
      formatBytes(usage.disk.writtenBytes),
    ]),
  ]);
  const [name = '', ...numbers] = header;
  if (rows.length === 0) return 'no machine is running\n';
  return renderTable([name, ...right(numbers)], rows, terminal);
}

const percent = (value: number): string => `${value.toFixed(1)}%`;
