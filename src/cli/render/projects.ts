import type { ListedProject } from '../../app/list.ts';
import { formatAge } from './size.ts';
import { type Cell, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

/** The projects of a user as a table, with a line break at the end. */
export function renderProjects(projects: readonly ListedProject[], terminal: Terminal, now: number): string {
  if (projects.length === 0) return 'no project has machines\n';
  const rows = projects.map(({ project, dir, running, machines, agent, since, problem, processes }): Cell[] => [
    project,
    problem === undefined ? { text: `${running}/${machines} running`, style: running > 0 ? 'green' : 'yellow' } : '',
    agent === undefined ? '' : String(agent),
    since === undefined ? '' : formatAge(since, now),
    dir,
    {
      text: `${problem ?? ''}${processes === undefined ? '' : ` (runs: ${processes.join(', ')})`}`,
      style: 'red',
    },
  ]);
  return renderTable(['PROJECT', 'MACHINES', 'AGENT', 'SINCE', 'FOLDER', 'WHY'], rows, terminal);
}
