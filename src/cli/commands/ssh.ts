// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the shell's own variables
import type { Handler } from '../program.ts';
import { runInMachine } from '../stream.ts';

/** The user's own shell, as a login shell; `$0` is the command line. */
const loginShell = ['/bin/sh', '-c', 'exec "${SHELL:-/bin/sh}" -l'];
const shellCommand = ['/bin/sh', '-c', 'exec "${SHELL:-/bin/sh}" -lc "$0"'];

export const ssh: Handler<{ command?: string; login: string; tty?: boolean }> = async (
  session,
  [name = '', ...words],
  options,
) => {
  const line = options.command ?? (words[0] === '--' ? words.slice(1) : words).join(' ');
  const interactive = line === '';
  return runInMachine(session, name, {
    argv: interactive ? loginShell : [...shellCommand, line],
    user: options.login,
    env: {},
    terminal: (interactive || options.tty === true) && session.stdin.isTTY && session.stdout.isTTY,
  });
};
