import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toMarkdown } from './cli/manual/markdown.ts';
import { manualPages, pageName } from './cli/manual/pages.ts';
import { toRoff } from './cli/manual/roff.ts';
import { createProgram } from './cli/program.ts';
import { schemaToMarkdown } from './config/docs.ts';
import schema from './config/tsfile.schema.json' with { type: 'json' };

/**
 * Writes what is generated of the documentation, below the current folder: `docs` (npm run docs) the pages of docs/ and the
 * list of the manual's in package.json, `man` (the build) the manual's pages in dist/man.
 */
const packageJson = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const { version } = packageJson;
const pages = manualPages(createProgram(version, async () => {}));

if (process.argv.includes('docs')) {
  writeFileSync('docs/tsfile.md', schemaToMarkdown(schema));
  writeFileSync('docs/commands.md', toMarkdown(pages));
  // npm links the pages that are listed, and knows no patterns.
  const man = pages.map(({ command }) => `dist/man/${pageName(command)}.1`);
  writeFileSync('package.json', `${JSON.stringify({ ...packageJson, man }, undefined, 2)}\n`);
} else if (process.argv.includes('man')) {
  mkdirSync('dist/man', { recursive: true });
  for (const page of pages) writeFileSync(join('dist/man', `${pageName(page.command)}.1`), toRoff(page, version));
} else throw new Error('docs or man?');
