import { basename, join } from 'node:path';
import { packageDir } from '../../app/place.ts';
import { listTemplates, writeTemplate } from '../../config/init.ts';
import type { Handler } from '../program.ts';

export const init: Handler<{ template: string; list?: boolean }> = async (session, _, options) => {
  const templates = join(packageDir(), 'templates', 'init');
  if (options.list === true) {
    const rows = listTemplates(templates);
    const width = Math.max(...rows.map(({ name }) => name.length));
    for (const { name, description } of rows) session.stdout.write(`${name.padEnd(width)}  ${description}\n`);
    return 0;
  }
  const written = writeTemplate(templates, options.template, session.place.cwd);
  session.stdout.write(
    `Wrote ${written.map((file) => basename(file)).join(', ')}.\n\nNext: look at Tsfile.yaml, then run 'tsv up'.\n`,
  );
  return 0;
};
