import type { Entry, Page } from './pages.ts';

/** docs/commands.md: the same pages, one below the other. */
export function toMarkdown(pages: readonly Page[]): string {
  const [first, ...rest] = pages;
  return `${[
    '<!-- Generated from the command line’s own description and src/cli/manual by `npm run docs`. -->',
    '# Commands',
    'The same is in `tsv help COMMAND` and, where tsv is installed, in `man tsv-COMMAND`. Exit codes are 0, 1 for an error (standard error says what, where and why), and 130 after Ctrl-C; others are told.',
    rest.map(({ command }) => `[${command}](#${command.replaceAll(' ', '-')})`).join(' · '),
    ...(first === undefined ? [] : ['## Options before the command', table(first.options)]),
    ...rest.flatMap((page) => pageLines(page, 2)),
  ]
    .filter((part) => part !== '')
    .join('\n\n')}\n`;
}

function pageLines(page: Page, level: number): readonly string[] {
  const { command, summary, usage, text, args, options, notes, examples, commands, exit, page: more } = page;
  const own = exit.filter(([code]) => !['0', '1', '130'].includes(code));
  return [
    `${'#'.repeat(level)} ${command}`,
    `\`${usage}\``,
    [`${summary[0]?.toUpperCase() ?? ''}${summary.slice(1)}.`, ...text].join('\n\n'),
    table([...args, ...options.filter(([term]) => term !== '-h, --help')]),
    literal(notes),
    literal(examples),
    ...commands.flatMap((inner) => pageLines(inner, level + 1)),
    own.map(([code, meaning]) => `Exit code ${code}: ${meaning}.`).join('\n'),
    more === undefined ? '' : `More: [${more}.md](${more}.md)`,
  ];
}

const table = (entries: readonly Entry[]): string =>
  entries.length === 0
    ? ''
    : [
        '| | |',
        '|---|---|',
        ...entries.map(([term, meaning]) => `| \`${cell(term)}\` | ${cell(meaning).replaceAll('<', '&lt;')} |`),
      ].join('\n');

const literal = (text: string): string => (text === '' ? '' : `\`\`\`\n${text}\n\`\`\``);

const cell = (text: string): string => text.replaceAll('|', '\\|');
