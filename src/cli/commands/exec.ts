import { isatty } from 'node:tty';
import type { Handler } from '../program.ts';
import { runInMachine } from '../stream.ts';
import { variablesOf } from '../variable.ts';

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
    env: variablesOf(options.env),
    terminal,
  });
};
