import { familiarText } from '../../app/image-list.ts';
import { collectGarbage, planGc, type Removal, storeUsage, verifyWholeStore } from '../../app/store.ts';
import { TsvError } from '../../model/errors.ts';
import { agreed } from '../ask.ts';
import type { Handler, Session } from '../program.ts';
import { withProgress } from '../progress.ts';
import { jsonLine } from '../render/json.ts';
import { formatBytes } from '../render/size.ts';
import { renderTable } from '../render/table.ts';
import { readTerminal } from '../render/terminal.ts';
import { count, harmless } from '../render/text.ts';
import { reportRefused } from './image.ts';

export const df: Handler<{ json?: boolean }> = async (session, _, options) => {
  const usage = await storeUsage(session.place);
  if (options.json === true) {
    session.stdout.write(`${jsonLine(usage)}\n`);
    return 0;
  }
  const rows = usage.rows.map(({ type, count: amount, bytes, reclaimableBytes, reclaimableAllBytes }) => [
    type,
    String(amount),
    formatBytes(bytes),
    formatBytes(reclaimableBytes),
    formatBytes(reclaimableAllBytes),
  ]);
  session.stdout.write(
    renderTable(
      ['TYPE', 'COUNT', 'SIZE', 'RECLAIMABLE', 'WITH --all'],
      rows,
      readTerminal(session.stdout, session.place.env),
    ),
  );
  return 0;
};

export const gc: Handler<{ dryRun?: boolean; yes?: boolean; all?: boolean; json?: boolean }> = async (
  session,
  _,
  options,
) => {
  const all = options.all === true;
  const { removal, bytes, nothing, unreadable } = await planGc(session.place, all);
  for (const { projectDir, why } of unreadable) {
    const text = `what ${projectDir} uses cannot be told, so what came for machines is kept: ${why}`;
    session.stderr.write(`${harmless(text)}\n`);
  }
  if (options.json === true && options.dryRun === true) {
    session.stdout.write(`${jsonLine(asJson(removal, bytes))}\n`);
    return 0;
  }
  if (nothing) {
    if (options.json === true) session.stdout.write(`${jsonLine(asJson(removal, bytes))}\n`);
    else session.stdout.write('nothing to remove\n');
    return 0;
  }
  if (options.json !== true) session.stdout.write(summary(removal, bytes));
  if (options.dryRun === true) return 0;
  if (options.yes !== true && !(await confirmed(session))) {
    session.stderr.write('Nothing was removed.\n');
    return 1;
  }
  const done = await withProgress(session, { quiet: options.json === true }, (emit, signal) =>
    collectGarbage(session.place, all, emit, signal),
  );
  session.stdout.write(
    options.json === true
      ? `${jsonLine({ ...asJson(done.removal, done.bytes), refused: done.refused })}\n`
      : `${formatBytes(done.bytes)} are free again\n`,
  );
  return reportRefused(session, done.refused);
};

async function confirmed(session: Session): Promise<boolean> {
  if (session.stdin.isTTY) return agreed(session, 'Remove that?');
  throw new TsvError('TSV_USAGE', 'gc asks before it removes, and there is no terminal to ask on', {
    hint: 'tsv store gc -y; tsv store gc --dry-run only shows it',
  });
}

const namesOf = ({ names }: Removal): string[] =>
  names.map(({ reference, descriptor }) => (reference === undefined ? descriptor.digest : familiarText(reference)));

const asJson = (removal: Removal, bytes: number): object => ({
  images: namesOf(removal),
  blobs: removal.blobs.map(({ digest }) => digest),
  layers: removal.layers.map(({ path }) => path),
  partials: removal.partials.map(({ name }) => name),
  leftovers: removal.leftovers.map(({ path }) => path),
  boxes: removal.boxes.map(({ path }) => path),
  templates: removal.templates.map(({ path }) => path),
  provisionLayers: removal.cache.map(({ path }) => path),
  bytes,
});

function summary(removal: Removal, bytes: number): string {
  const counted = [
    [removal.blobs.length, 'blob'],
    [removal.layers.length, 'unpacked layer'],
    [removal.cache.length, 'provision layer'],
    [removal.partials.length, 'partial download'],
    [removal.leftovers.length, 'unfinished folder'],
  ] as const;
  const parts = counted.flatMap(([amount, what]) => (amount === 0 ? [] : [count(amount, what)]));
  return [
    ...namesOf(removal).map((name) => `image ${name}`),
    ...removal.templates.map(({ path }) => `template ${path}`),
    ...removal.boxes.map(({ name, kind }) => `box ${name} for ${kind === 'vm' ? 'VMs' : 'containers'}`),
    ...(parts.length === 0 ? [] : [parts.join(', ')]),
    `${formatBytes(bytes)} in all`,
  ]
    .map((line) => `${harmless(line)}\n`)
    .join('');
}

export const verify: Handler<{ json?: boolean; quiet?: boolean }> = async (session, _, options) => {
  const result = await withProgress(
    session,
    { quiet: options.json === true || options.quiet === true },
    (emit, signal) => verifyWholeStore(session.place, emit, signal),
  );
  const { images, layers, provisionLayers, blobs, bytes, problems } = result;
  if (options.json === true) session.stdout.write(`${jsonLine(result)}\n`);
  else {
    for (const { text, mend } of problems) session.stdout.write(`${harmless(text)}\n  mend: ${harmless(mend)}\n`);
    const all = `${count(images, 'image')}, ${count(layers, 'unpacked layer')}, ${count(blobs, 'blob')} (${formatBytes(bytes)}), ${count(provisionLayers, 'provision layer')}`;
    const verdict =
      problems.length === 0 ? 'all is whole' : count(problems.length, 'thing is wrong', 'things are wrong');
    if (options.quiet !== true || problems.length > 0) session.stdout.write(`${all}: ${verdict}\n`);
  }
  return problems.length === 0 ? 0 : 1;
};
