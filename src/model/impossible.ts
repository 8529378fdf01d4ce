import { TsvError } from './errors.ts';
import type { Machine, Project } from './project.ts';

/** Before anything is made. @throws TSV_UNSUPPORTED with all that is wrong with the machines of a project */
export function refuseImpossible(project: Project, problemsOf: (machine: Machine) => readonly string[]): void {
  const details = project.machines.flatMap((machine) =>
    problemsOf(machine).map((problem) => `${machine.name}: ${problem}`),
  );
  if (details.length > 0)
    throw new TsvError('TSV_UNSUPPORTED', 'this Tsfile asks for what its machines cannot do', { details });
}
