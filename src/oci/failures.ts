import { TsvError } from '../model/errors.ts';
import type { StepFailure } from '../sys/fork.ts';
import { commandNote, folderNote } from './privileges.ts';
import type { OciProcess } from './spec.ts';

/** What a step of a container's program that failed means to its user. */
export const startFailure =
  (name: string, process: OciProcess | undefined): StepFailure =>
  (step, errno) => {
    const [call = '', note = ''] = step.split(' # ');
    if (note === commandNote) return commandFailure(name, process?.args[0] ?? '', errno);
    if (process !== undefined && note === folderNote(process.cwd)) {
      return new TsvError('TSV_COMMAND_NOT_FOUND', `${name}: folder ${process.cwd}: ${errno}`, {
        details: ['process.cwd: it must be a folder of the container, reached through no link of /proc'],
        exitCode: 126,
      });
    }
    return new TsvError('TSV_CONTAINER_START', `${name} could not be started`, {
      details: [...(note === '' ? [] : [`${note}: ${errno}`]), `${call}: ${errno}`],
    });
  };

/** Exit codes as shells give them: 127 not found, 126 found but not executable. */
export function commandFailure(machine: string, command: string, errno: string): TsvError {
  const missing = errno === 'ENOENT' || errno === 'ENOTDIR';
  return new TsvError(
    'TSV_COMMAND_NOT_FOUND',
    missing ? `${machine} has no command '${command}'` : `${machine} cannot execute '${command}' (${errno})`,
    { exitCode: missing ? 127 : 126 },
  );
}
