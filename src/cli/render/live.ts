import type { Writable } from 'node:stream';
import { Screen } from './screen.ts';
import { type OutputSize, symbolsOf, type Terminal } from './terminal.ts';
import { count } from './text.ts';

/** Something that is shown again and again: on a terminal in place, elsewhere one text after the other. */
export interface Live {
  show(text: string): void;
  /** What is on the terminal stays there. */
  done(): void;
}

/** @param read asked before each picture: a terminal may change its size */
export function createLive(stream: Writable & OutputSize, read: () => Terminal): Live {
  if (!read().cursor) {
    let isFirst = true;
    return {
      show: (text) => {
        stream.write(isFirst ? text : `\n${text}`);
        isFirst = false;
      },
      done: () => {},
    };
  }
  const screen = new Screen(stream, symbolsOf(read()).ellipsis);
  let last: readonly string[] = [];
  return {
    show: (text) => {
      last = fitRows(text.trimEnd().split('\n'), read());
      screen.draw(last);
    },
    done: () => screen.finish(last),
  };
}

/** Fewer lines than the terminal has rows, so that nothing scrolls. */
export function fitRows(lines: readonly string[], terminal: Pick<Terminal, 'rows' | 'unicode'>): readonly string[] {
  const room = Math.max(2, terminal.rows - 1);
  if (lines.length <= room) return lines;
  const hidden = lines.length - room + 1;
  return [...lines.slice(0, room - 1), `${symbolsOf(terminal).ellipsis} ${count(hidden, 'more line')}`];
}
