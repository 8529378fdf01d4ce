import { boxList, buildBox } from '../../app/box.ts';
import { parseSize } from '../../config/units.ts';
import { TsvError } from '../../model/errors.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';
import { renderTable } from '../render/table.ts';
import { readTerminal } from '../render/terminal.ts';

export const list: Handler<{ json?: boolean }> = async (session, _, options) => {
  const boxes = await boxList(session.place);
  if (options.json === true) {
    session.stdout.write(`${JSON.stringify(boxes)}\n`);
    return 0;
  }
  const rows = boxes.flatMap((box) =>
    box.parts.map((part) => [box.name, part.kind, part.built ? size(part.bytes ?? 0) : 'not built', box.description]),
  );
  session.stdout.write(
    renderTable(['BOX', 'FOR', 'SIZE', 'DESCRIPTION'], rows, readTerminal(session.stdout, session.place.env)),
  );
  return 0;
};

export const warm: Handler<{ memory?: string; cpus?: number; json?: boolean; quiet?: boolean }> = async (
  session,
  [name = ''],
  { memory, cpus, ...options },
) => {
  const memoryBytes = memory === undefined ? undefined : parseSize(memory);
  if (memory !== undefined && memoryBytes === undefined)
    throw new TsvError('TSV_USAGE', `--memory: ${memory} is not a size`, { hint: 'such as --memory 1G' });
  const { warmBox } = await import('../../app/warm.ts');
  const wanted = { ...(memoryBytes === undefined ? {} : { memoryBytes }), ...(cpus === undefined ? {} : { cpus }) };
  await withProgress(session, options, (emit, signal) => warmBox(session.place, name, wanted, emit, signal));
  return 0;
};

const size = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;

export const build: Handler<{ kind?: 'container' | 'vm'; json?: boolean; quiet?: boolean }> = async (
  session,
  [name = ''],
  options,
) => {
  const kinds = options.kind === undefined ? (['container', 'vm'] as const) : [options.kind];
  await withProgress(session, options, (emit, signal) => buildBox(session.place, name, kinds, emit, signal));
  return 0;
};
