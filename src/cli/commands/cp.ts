import { copy, copyEnd } from '../../app/copy.ts';
import { TsvError } from '../../model/errors.ts';
import type { Handler } from '../program.ts';
import { formatBytes } from '../render/size.ts';
import { harmless } from '../render/text.ts';

export const cp: Handler<{ archive?: boolean; followLink?: boolean; quiet?: boolean }> = async (
  session,
  [source = '', destination = ''],
  options,
) => {
  const [from, to] = [copyEnd(source), copyEnd(destination)];
  if (to === '-' && session.stdout.isTTY)
    throw new TsvError('TSV_USAGE', 'an archive is not for a terminal', { hint: `tsv cp ${source} - | tar -t` });
  const abort = new AbortController();
  const interrupt = () => abort.abort();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, interrupt);
  const { bytes, notes } = await copy({
    place: session.place,
    from,
    to,
    archive: options.archive === true,
    follow: options.followLink === true,
    stdin: () => session.stdin,
    stdout: () => session.stdout,
    commandLine: session.commandLine,
    signal: abort.signal,
  });
  for (const note of notes) session.stderr.write(`${harmless(note)}\n`);
  if (options.quiet !== true && to !== '-')
    session.stderr.write(`Copied ${formatBytes(bytes)} to ${harmless(destination)}\n`);
  return 0;
};
