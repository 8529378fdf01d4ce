import { isatty } from 'node:tty';
import { TsvError } from '../../model/errors.ts';
import type { Handler } from '../program.ts';
import { runInMachine } from '../stream.ts';

export const exec: Handler<{ user: string; workdir?: string; env?: readonly string[]; tty: boolean }> = async (
  session,
  [name = '', ...argv],
  options,
) => {
  const terminal = options.tty && isatty(0) && isatty(1);
  return runInMachine(session, name, {
    argv: argv[0] === '--' ? argv.slice(1) : argv,
    user: options.user,
    ...(options.workdir === undefined ? {} : { cwd: options.workdir }),
    env: Object.fromEntries((options.env ?? []).map(variable)),
    terminal,
  });
};

/** `NAME=value`, or `NAME` for the variable as it is here. */
function variable(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  const value = process.env[text];
  if (at === 0 || value === undefined)
    throw new TsvError('TSV_USAGE', `--env ${text}: not NAME=value, and no variable of that name is set here`);
  return [text, value];
}
