import type { Entry, Page } from './pages.ts';
import { pageName } from './pages.ts';

/** A page in the language of man(7), section 1. */
export function toRoff(page: Page, version: string): string {
  const { command, summary, usage, text, args, options, commands, list, notes, examples, exit, see, page: more } = page;
  return `${[
    `.TH ${quoted(pageName(command).toUpperCase())} 1 "" ${quoted(`tsv ${version}`)} "tsv"`,
    ...section('NAME', [`${escaped(pageName(command))} \\- ${escaped(summary)}`]),
    ...section('SYNOPSIS', [`.B ${escaped(usage)}`]),
    ...section('DESCRIPTION', paragraphs(text)),
    ...section('ARGUMENTS', entries(args)),
    ...section('OPTIONS', entries(options)),
    ...section('COMMANDS', [...entries(list), ...commands.flatMap(inner)]),
    ...section('NOTES', literal(notes)),
    ...section('EXAMPLES', literal(examples)),
    ...section('EXIT STATUS', entries(exit)),
    ...section('SEE ALSO', [
      ...(see.length === 0 ? [] : [see.map((name) => `.BR ${escaped(name)} (1)`).join(' ,\n')]),
      ...(more === undefined ? [] : ['.PP', escaped(`docs/${more}.md in the package’s folder`)]),
    ]),
  ].join('\n')}\n`;
}

const section = (title: string, lines: readonly string[]): readonly string[] =>
  lines.length === 0 ? [] : [`.SH ${quoted(title)}`, ...lines];

const inner = ({ usage, summary, args, options, notes, examples }: Page): readonly string[] => [
  `.SS ${quoted(usage)}`,
  escaped(summary),
  ...entries([...args, ...options]),
  ...literal(notes),
  ...literal(examples),
];

const paragraphs = (texts: readonly string[]): readonly string[] => texts.flatMap((text) => ['.PP', escaped(text)]);

const entries = (list: readonly Entry[]): readonly string[] =>
  list.flatMap(([term, meaning]) => ['.TP', `.B ${escaped(term)}`, escaped(meaning)]);

const literal = (text: string): readonly string[] =>
  text === '' ? [] : ['.PP', '.EX', ...text.split('\n').map(escaped), '.EE'];

/** groff(7): a backslash begins an escape, a hyphen becomes a dash, and a line that begins with `.` or `'` is a request. */
const escaped = (text: string): string =>
  text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('’', "'")
    .replace(/^(?=[.'])/, '\\&')
    .replace(
      /[^\x20-\x7e]/g,
      (other) => `\\[u${(other.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}]`,
    );

/** For an argument of a request. */
const quoted = (text: string): string => `"${escaped(text).replaceAll('"', '\\(dq')}"`;
