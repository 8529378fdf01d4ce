import { closeSync } from 'node:fs';
import { waitExit } from './children.ts';
import { elfExecutable } from './elf.ts';
import { AT } from './flags.ts';
import { fork, memoryFile, stdio } from './fork.ts';

/** The machine code of logger.s. */
export const loggerCode = Buffer.from(
  '4881ec0000010031c031ff4889e6ba000001000f054883f8fc74ec4885c07e2d4989c44989e5b801000000bf010000004c89ee4c89e20f0548' +
    '83f8fc74e84885c07ec44901c54929c475dbebbab8e700000031ff0f05',
  'hex',
);

/**
 * Starts a process that writes what comes from a pipe to a file, until nobody holds the pipe's other end any more. It
 * outlives this process: who prints into a pipe that nobody reads is ended (SIGPIPE). Both descriptors stay the caller's.
 * @param label of the environment variable TSV_ID, by which people find processes of a project
 * @returns `started`: it reads; `gone`: it has ended
 */
export function startLogger(
  pipe: number,
  file: number,
  label: string,
): { readonly started: Promise<void>; readonly gone: Promise<unknown> } {
  const executable = memoryFile('tsv-logger', elfExecutable(loggerCode));
  try {
    const { pid, executed } = fork({
      fds: { stdin: pipe, stdout: file, stderr: file, logger: executable },
      steps: [
        { call: 'setsid', args: [] },
        { call: 'chdir', args: ['/'] },
        ...stdio(),
        {
          call: 'execveat',
          args: [{ fd: 'logger' }, '', { strings: ['tsv-logger'] }, { strings: [`TSV_ID=${label}`] }, AT.EMPTY_PATH],
        },
      ],
    });
    return { started: executed, gone: waitExit(pid) };
  } finally {
    closeSync(executable);
  }
}
