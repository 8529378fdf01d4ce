import { waitForMachines } from '../../app/wait.ts';
import { TsvError } from '../../model/errors.ts';
import { conditions } from '../../model/waiting.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';
import { renderWaited } from '../render/waited.ts';

export const wait: Handler<{ timeout?: number; json?: boolean }> = async (session, words, options) => {
  const condition = conditions.find((name) => name === words.at(-1));
  if (condition === undefined) {
    throw new TsvError('TSV_USAGE', `wait until what? ${words.at(-1)} is none of ${conditions.join(', ')}`, {
      hint: `tsv wait ${words.join(' ')} healthy`,
    });
  }
  const waited = await withProgress(session, { quiet: true }, (emit, signal) =>
    waitForMachines({
      place: session.place,
      names: words.slice(0, -1),
      condition,
      commandLine: session.commandLine,
      emit,
      signal,
      ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
    }),
  );
  if (options.json === true) session.stdout.write(`${JSON.stringify(waited)}\n`);
  else session.stderr.write(renderWaited(waited, condition));
  return waited.every(({ met }) => met) ? 0 : 1;
};
