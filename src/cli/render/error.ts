import { errorCodes, type TsvError, toTsvError } from '../../model/errors.ts';
import { style, symbolsOf, type Terminal } from './terminal.ts';
import { harmless, harmlessLines } from './text.ts';

type Look = Pick<Terminal, 'colour' | 'unicode'>;

/**
 * An error for people, with a line break at the end: what failed and its code, where and why, and behind the arrow
 * what to do. Only a defect of tsv comes with a stack trace.
 */
export function renderError(thrown: unknown, terminal: Look): string {
  const error = toTsvError(thrown);
  const [first = '', ...rest] = harmlessLines(error.message.trim() || errorCodes[error.code]);
  const lines = [
    `${style(terminal, 'tsv:', 'red', 'bold')} ${first} ${style(terminal, `[${error.code}]`, 'dim')}`,
    ...[...rest, ...error.details.flatMap(harmlessLines)].map((line) =>
      `  ${detailLine(line, error, terminal)}`.trimEnd(),
    ),
  ];
  if (error.code === 'TSV_INTERNAL') lines.push(...stackOf(error).map((line) => style(terminal, `  ${line}`, 'dim')));
  lines.push(...hintLines(error, terminal));
  return `${lines.join('\n')}\n`;
}

function detailLine(line: string, { code }: TsvError, terminal: Look): string {
  if (code !== 'TSV_TSFILE_INVALID') return line;
  if (/^\s*\^~*\s*$/.test(line)) return style(terminal, line, 'red');
  const place = /^(\S.*?:\d+:\d+:) (.*)$/.exec(line);
  return place === null ? line : `${style(terminal, place[1] ?? '', 'bold')} ${place[2] ?? ''}`;
}

function hintLines(error: TsvError, terminal: Look): string[] {
  const { hint: arrow } = symbolsOf(terminal);
  const hint =
    error.hint ??
    (error.code === 'TSV_INTERNAL'
      ? 'this is a defect in tsv: please report it with the lines above and the output of tsv --version'
      : undefined);
  if (hint === undefined) return [];
  const indent = ' '.repeat(arrow.length + 1);
  return harmlessLines(hint).map((line, index) =>
    index === 0 ? `${style(terminal, arrow, 'cyan')} ${line}` : indent + line,
  );
}

/** The frames without the message, which is shown above them. */
function stackOf(error: TsvError): string[] {
  const { stack = '' } = error.cause instanceof Error ? error.cause : error;
  return stack
    .split('\n')
    .filter((line) => /^\s+at /.test(line))
    .map((line) => harmless(line.trim()));
}
