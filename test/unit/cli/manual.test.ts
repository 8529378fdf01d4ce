import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { toMarkdown } from '../../../src/cli/manual/markdown.ts';
import { manualPages, type Page, pageName } from '../../../src/cli/manual/pages.ts';
import { toRoff } from '../../../src/cli/manual/roff.ts';
import { createProgram } from '../../../src/cli/program.ts';

const program = createProgram('1.2.3', async () => {});
const pages = manualPages(program);
const pageOf = (command: string): Page => {
  const page = pages.find((candidate) => candidate.command === command);
  if (page === undefined) throw new Error(`no page on ${command}`);
  return page;
};

test('docs/commands.md is what the command line says; if not, run: npm run docs', () => {
  const root = join(import.meta.dirname, '..', '..', '..');
  expect(readFileSync(join(root, 'docs/commands.md'), 'utf8')).toBe(toMarkdown(pages));
});

test('the package has each page for man(1); if not, run: npm run docs', () => {
  expect(packageJson.man).toEqual(pages.map(({ command }) => `dist/man/${pageName(command)}.1`));
});

test('there is a page on each command that the help shows, and none on others', () => {
  const shown = program.helpInformation().matchAll(/^ {2}([a-z-]+)(?= .*|\|)/gm);
  const names = [...shown].map(([, name = '']) => name).filter((name) => name !== 'help');
  expect(pages.map(({ command }) => command)).toEqual(['tsv', ...names.map((name) => `tsv ${name}`)]);
});

test('pages lead to pages that are there', () => {
  const names = new Set(pages.map(({ command }) => command.replace(' ', '-')));
  for (const { command, see } of pages) for (const name of see) expect(names, `${command}: ${name}`).toContain(name);
});

test('a page has the options, the words below them and the examples of the help', () => {
  const { usage, args, options, notes, examples } = pageOf('tsv wait');
  expect(usage).toBe('tsv wait [options] [names...] healthy|running|completed|stopped');
  expect(args.map(([term]) => term)).toEqual(['words']);
  expect(options.map(([term]) => term)).toContain('--timeout <duration>');
  expect(notes).toMatch(/^healthy +its health check succeeds/);
  expect(examples).toMatch(/^tsv wait db healthy --timeout 1m\n/);
});

test('a group has its commands on one page', () => {
  expect(pageOf('tsv box').commands.map(({ command }) => command)).toEqual([
    'tsv box list',
    'tsv box build',
    'tsv box warm',
  ]);
});

describe('a page for man(1)', () => {
  const page: Page = {
    ...pageOf('tsv wait'),
    text: ['.so /etc/passwd', "'tis a back\\slash", 'a – dash'],
    notes: '.sp\nquoted "words"',
  };
  const roff = toRoff(page, '1.2.3');

  test('begins with its name, section and version', () => {
    expect(roff.split('\n').slice(0, 3)).toEqual([
      '.TH "TSV\\-WAIT" 1 "" "tsv 1.2.3" "tsv"',
      '.SH "NAME"',
      `tsv\\-wait \\- ${page.summary}`,
    ]);
  });

  test('says nothing to the formatter that was meant for people', () => {
    const lines = roff.split('\n');
    expect(lines).toContain('\\&.so /etc/passwd');
    expect(lines).toContain("\\&'tis a back\\eslash");
    expect(lines).toContain('\\&.sp');
    expect(lines).toContain('a \\[u2013] dash');
    const requests = new Set(lines.flatMap((line) => /^[.']\S*/.exec(line)?.[0] ?? []));
    expect([...requests].sort()).toEqual(['.B', '.BR', '.EE', '.EX', '.PP', '.SH', '.TH', '.TP']);
  });
});
