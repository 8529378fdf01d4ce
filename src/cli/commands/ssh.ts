// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the shell's own variables
import { TsvError } from '../../model/errors.ts';
import type { Handler } from '../program.ts';
import { runInMachine } from '../stream.ts';

/** The user's own shell, as a login shell; `$1` is the command line. */
const ownShell = '[ -x "$SHELL" ] || SHELL=/bin/sh; exec "$SHELL"';
const loginShell = ['/bin/sh', '-c', `${ownShell} -l`, 'sh'];
const shellCommand = ['/bin/sh', '-c', `${ownShell} -lc "$1"`, 'sh'];

export const ssh: Handler<{ command?: string; login: string; tty?: boolean }> = async (
  session,
  [name = '', ...words],
  options,
) => {
  const line = options.command ?? (words[0] === '--' ? words.slice(1) : words).join(' ');
  const interactive = line === '';
  const running = runInMachine(session, name, {
    argv: interactive ? loginShell : [...shellCommand, line],
    user: options.login,
    env: {},
    terminal: (interactive || options.tty === true) && session.stdin.isTTY && session.stdout.isTTY,
  });
  return running.catch((error: unknown) => {
    if (!(error instanceof TsvError) || error.code !== 'TSV_COMMAND_NOT_FOUND') throw error;
    throw new TsvError(error.code, `${name} has no shell`, {
      details: [error.message],
      hint: `tsv exec ${name} -- PROGRAM runs a program of it without one`,
      exitCode: error.exitCode,
      cause: error,
    });
  });
};
