import { StringDecoder } from 'node:string_decoder';

/** A longer line is given in pieces of this many UTF-16 units. */
const longestLine = 8192;

/**
 * Cuts a program's output into lines for people and logs. `\r\n` counts as `\n`; what a lone `\r` overwrites (a
 * progress bar) is dropped; colours stay, all other control characters and broken UTF-8 become visible text.
 * Holds at most one line.
 */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #emit: (line: string) => void;
  #rest = '';
  /** A `\r` was the last character: it overwrites only if something else than `\n` follows. */
  #return = false;

  constructor(emit: (line: string) => void) {
    this.#emit = emit;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** The stream is over: what is left is a line, too. */
  end(): void {
    this.#take(this.#decoder.end());
    if (this.#rest !== '') this.#line();
  }

  #take(text: string): void {
    for (const part of text.match(/[^\r\n]+|\r|\n/g) ?? []) {
      if (part === '\n') this.#line();
      else if (part === '\r') this.#return = true;
      else {
        if (this.#return) this.#rest = '';
        this.#return = false;
        this.#rest += part;
        while (this.#rest.length > longestLine) this.#piece();
      }
    }
  }

  #line(): void {
    this.#return = false;
    const line = this.#rest;
    this.#rest = '';
    this.#emit(printable(line));
  }

  #piece(): void {
    const last = this.#rest.charCodeAt(longestLine - 1);
    const cut = last >= 0xd800 && last <= 0xdbff ? longestLine - 1 : longestLine; // not inside a surrogate pair
    this.#emit(printable(this.#rest.slice(0, cut)));
    this.#rest = this.#rest.slice(cut);
  }
}

// Colours are `ESC [ … m` (ECMA-48, SGR); every other sequence could move the cursor or change the terminal.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
const colourOrControl = /\x1b\[[\d;:]*m|[\0-\x08\x0b-\x1f\x7f-\x9f]/g;

/** Text that cannot do anything to a terminal but colour it. */
export function printable(text: string): string {
  return text.replace(colourOrControl, (found) =>
    found.length > 1 ? found : `\\x${found.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
}
