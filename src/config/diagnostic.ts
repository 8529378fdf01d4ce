/** A piece of a text: offsets in UTF-16 code units, `end` is behind the last one. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** One mistake in a file, with its place. */
export interface Diagnostic {
  /** As shown to the user: relative to where the command runs. */
  readonly file: string;
  /** 1-based. */
  readonly line: number;
  /** 1-based, in code points. */
  readonly column: number;
  /** Code points to underline, at least 1; a mistake that spans lines is underlined on its first. */
  readonly length: number;
  readonly message: string;
  readonly hint?: string;
}

/** Notes one mistake at a place of the Tsfile. */
export type Report = (at: Span, message: string, hint?: string) => void;

/** A text that offsets can be turned into lines and columns of. */
export class Source {
  readonly file: string;
  readonly text: string;
  readonly #lineStarts: readonly number[];

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
    const starts = [0];
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
    this.#lineStarts = starts;
  }

  /** The 1-based line without its line break; empty when there is no such line. */
  line(number: number): string {
    const start = this.#lineStarts[number - 1];
    if (start === undefined) return '';
    return this.text.slice(start, this.#lineStarts[number] ?? this.text.length).replace(/\r?\n$/, '');
  }

  /** The 1-based line of an offset. */
  lineAt(offset: number): number {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#lineStarts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  }

  diagnostic(at: Span, message: string, hint?: string): Diagnostic {
    const start = Math.min(Math.max(at.start, 0), this.text.length);
    const line = this.lineAt(start);
    const lineStart = this.#lineStarts[line - 1] ?? 0;
    const lineEnd = lineStart + this.line(line).length;
    return {
      file: this.file,
      line,
      column: codePoints(this.text.slice(lineStart, start)) + 1,
      length: Math.max(1, codePoints(this.text.slice(start, Math.min(at.end, lineEnd)))),
      message,
      ...(hint === undefined ? {} : { hint }),
    };
  }
}

const codePoints = (text: string): number => (isBmp(text) ? text.length : [...text].length);

/** Whether each UTF-16 code unit is a code point of its own. */
const isBmp = (text: string): boolean => !/[\ud800-\udfff]/.test(text);

/** Longest piece of a source line that is shown, in code points. */
const shownWidth = 110;

/**
 * `Tsfile.yaml:12:5: message`, the line, a caret line and the hint. Without `source` (the text is not to be
 * shown, as with `.env`) only the first line and the hint. Control characters never reach the terminal.
 */
export function renderDiagnostic(diagnostic: Diagnostic, source?: Source): string {
  const { file, line, column, message, hint } = diagnostic;
  const rows = [printable(`${file}:${line}:${column}: ${message}`)];
  const whole = source?.line(line) ?? '';
  if (/\S/.test(whole)) {
    const text = isBmp(whole) ? whole : [...whole];
    // A long line is shown from a little before the mistake on.
    const from = column + diagnostic.length <= shownWidth ? 0 : Math.max(0, column - 41);
    const shown = [...text.slice(from, from + shownWidth)];
    const at = column - 1 - from;
    const length = Math.max(1, Math.min(diagnostic.length, shown.length - at));
    rows.push(`    ${printable(shown.join(''))}`, `    ${' '.repeat(at)}^${'~'.repeat(length - 1)}`);
  }
  if (hint !== undefined) rows.push(`    ${printable(hint)}`);
  return rows.join('\n');
}

/** One column per code point: tabs become a space; other control and direction characters a replacement sign. */
const printable = (text: string): string =>
  text.replace(/\t/g, ' ').replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, '\u{fffd}');
