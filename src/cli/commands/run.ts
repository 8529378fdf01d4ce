import { isatty } from 'node:tty';
import { startOneOff } from '../../app/one-off.ts';
import { joinOneOff } from '../one-off.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';
import { terminalOf } from '../stream.ts';
import { variablesOf } from '../variable.ts';

interface RunFlags {
  readonly name?: string;
  readonly network?: string;
  readonly entrypoint?: string;
  readonly workdir?: string;
  readonly user?: string;
  readonly env?: readonly string[];
  readonly tty: boolean;
  readonly quiet?: boolean;
}

export const run: Handler<RunFlags> = async (session, [image = '', ...words], options) => {
  const { tty, env, quiet = false, name, network, entrypoint, workdir, user } = options;
  const terminal = tty && isatty(0) && isatty(1);
  const oneOff = await withProgress(session, { quiet }, (emit, signal) =>
    startOneOff({
      place: session.place,
      commandLine: session.commandLine,
      image,
      command: words[0] === '--' ? words.slice(1) : words,
      env: variablesOf(env),
      ...(name === undefined ? {} : { name }),
      ...(network === undefined ? {} : { network }),
      ...(entrypoint === undefined ? {} : { entrypoint }),
      ...(workdir === undefined ? {} : { workdir }),
      ...(user === undefined ? {} : { user }),
      ...(terminal ? { pty: terminalOf(session) } : {}),
      emit,
      signal,
    }),
  );
  return joinOneOff(session, oneOff, terminal);
};
