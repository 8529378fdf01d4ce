import { signalMachines } from '../../app/signal.ts';
import { TsvError } from '../../model/errors.ts';
import { parseSignal, signalNames } from '../../model/signals.ts';
import type { Handler } from '../program.ts';

export const kill: Handler<{ signal: string; quiet?: boolean }> = async (session, names, options) => {
  const signal = parseSignal(options.signal);
  if (signal === undefined) {
    throw new TsvError('TSV_USAGE', `--signal ${options.signal}: no such signal`, {
      details: [`signals: ${signalNames.join(', ')}; or a number`],
      hint: 'tsv kill --signal TERM NAME',
    });
  }
  const machines = await signalMachines(session.place, names, signal, session.commandLine);
  if (options.quiet !== true)
    for (const machine of machines)
      session.stderr.write(signal === 9 ? `${machine} killed\n` : `${machine} got ${options.signal.toUpperCase()}\n`);
  return 0;
};
