import { describe, expect, test } from 'vitest';
import { readTerminal, style } from '../../../src/cli/render/terminal.ts';
import { displayWidth, formatDuration, harmless, padEnd, truncate } from '../../../src/cli/render/text.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: it is what is looked for
const colour = /\x1b\[[\d;:]*m/g;

describe('text of elsewhere', () => {
  test.each([
    ['moves of the cursor', 'a\x1b[2J\x1b[10;10Hb\x1b[A', 'ab'],
    ['private modes', '\x1b[?25lhidden\x1b[?1049h', 'hidden'],
    ['a title, ended by BEL', '\x1b]0;owned\x07text', 'text'],
    ['a title, ended by ST', '\x1b]2;owned\x1b\\text', 'text'],
    ['a clipboard write', '\x1b]52;c;b3duZWQ=\x07text', 'text'],
    ['device control strings', '\x1bPq#0;2\x1b\\\x1b_G a=q\x1b\\text', 'text'],
    ['C1 controls in one character', '\x9b2J\x9d0;t\x9ctext\x85', 'text'],
    ['a title without an end', '\x1b]0;kept as text', '0;kept as text'],
    ['an escape at the very end', 'text\x1b', 'text'],
    ['a sequence cut off', 'text\x1b[12', 'text12'],
    ['character set and reset escapes', '\x1b(0\x1bctext\x1b#8', 'text'],
    ['an escape inside an escape', '\x1b\x1b[2Jtext', 'text'],
    ['bells, backspaces, returns', 'a\x07\b\rb', 'ab'],
    ['text written backwards', 'a\u202eb\u2066c', 'abc'],
    ['line breaks', 'a\nb\u2028c', 'a b c'],
    ['tabs', 'a\tb', 'a    b'],
    ['half a surrogate pair', 'a\ud800b', 'a\ufffdb'],
  ])('loses %s', (_, text, clean) => {
    expect(harmless(text)).toBe(clean);
    expect(harmless(harmless(text))).toBe(clean);
  });

  test('keeps colours only when asked to, and ends them', () => {
    expect(harmless('\x1b[31mred\x1b[2J')).toBe('red');
    expect(harmless('\x1b[31mred\x1b[2J', true)).toBe('\x1b[31mred\x1b[0m');
    expect(harmless('plain', true)).toBe('plain');
  });

  test('holds no control character whatever it was', () => {
    const alphabet = [
      '\x1b',
      '[',
      ']',
      '0',
      ';',
      'm',
      'J',
      '\x07',
      '\\',
      '\x9b',
      '\x9c',
      'P',
      'é',
      '漢',
      '\u202e',
      '\n',
    ];
    let seed = 7;
    const next = (): number => (seed = (seed * 1103515245 + 12345) % 2 ** 31);
    for (let round = 0; round < 2000; round += 1) {
      const text = Array.from({ length: next() % 24 }, () => alphabet[next() % alphabet.length]).join('');
      expect(harmless(text)).not.toMatch(/[\p{Cc}\p{Cf}]/u);
      expect(harmless(text, true).replaceAll(colour, '')).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    }
  });
});

describe('widths', () => {
  test('count columns, not characters', () => {
    expect(displayWidth('web-1')).toBe(5);
    expect(displayWidth('\x1b[31mweb\x1b[39m')).toBe(3);
    expect(displayWidth('漢字')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth('🚀')).toBe(2);
    expect(displayWidth('✔ ok')).toBe(4);
  });

  test('are kept when text is cut', () => {
    expect(truncate('short', 5)).toBe('short');
    expect(truncate('longer', 5)).toBe('long…');
    expect(truncate('longer', 5, '...')).toBe('lo...');
    expect(truncate('漢字漢字', 6)).toBe('漢字…');
    expect(truncate('\x1b[31mlonger\x1b[39m', 5)).toBe('\x1b[31mlong\x1b[0m…');
    expect(truncate('longer', 0)).toBe('');
    expect(padEnd('漢', 4)).toBe('漢  ');
  });
});

test.each([
  [0, '0.0s'],
  [420, '0.4s'],
  [9_940, '9.9s'],
  [9_960, '10s'],
  [59_400, '59s'],
  [59_600, '1m00s'],
  [64_000, '1m04s'],
  [7_620_000, '2h07m'],
  [-5, '0.0s'],
])('%i ms are %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

describe('the terminal', () => {
  const tty = { isTTY: true, columns: 100, rows: 30 };
  const colour = (env: Record<string, string>, stream: object = tty): boolean => readTerminal(stream, env).colour;

  test('has colour on a TTY only, unless the environment says otherwise', () => {
    expect(colour({})).toBe(true);
    expect(colour({}, {})).toBe(false);
    expect(colour({ NO_COLOR: '1' })).toBe(false);
    expect(colour({ NO_COLOR: '' })).toBe(true);
    expect(colour({ TERM: 'dumb' })).toBe(false);
    expect(colour({ CLICOLOR: '0' })).toBe(false);
    expect(colour({ CLICOLOR_FORCE: '1' }, {})).toBe(true);
    expect(colour({ FORCE_COLOR: '1' }, {})).toBe(true);
    expect(colour({ FORCE_COLOR: '1', NO_COLOR: '1' })).toBe(true);
    expect(colour({ FORCE_COLOR: '0' })).toBe(false);
  });

  test('shows more than ASCII in a UTF-8 locale only; the first variable that is set counts', () => {
    const unicode = (env: Record<string, string>): boolean => readTerminal(tty, env).unicode;
    expect(unicode({ LANG: 'C.UTF-8' })).toBe(true);
    expect(unicode({ LANG: 'de_DE.utf8' })).toBe(true);
    expect(unicode({ LANG: 'C.UTF-8', LC_ALL: 'C' })).toBe(false);
    expect(unicode({ LC_ALL: '', LC_CTYPE: 'en_GB.UTF-8' })).toBe(true);
    expect(unicode({})).toBe(false);
    expect(unicode({ LANG: 'C.UTF-8', TERM: 'linux' })).toBe(false);
  });

  test('has a size, whatever it says', () => {
    expect(readTerminal(tty, {})).toMatchObject({ columns: 100, rows: 30, cursor: true });
    expect(readTerminal({ isTTY: true, columns: 0, rows: 0 }, {})).toMatchObject({ columns: 80, rows: 24 });
    expect(readTerminal(tty, { TERM: 'dumb' }).cursor).toBe(false);
    expect(readTerminal({}, {}).cursor).toBe(false);
  });

  test('gets styles that end where they began, or none', () => {
    expect(style({ colour: true }, 'x', 'red', 'bold')).toBe('\x1b[31m\x1b[1mx\x1b[22m\x1b[39m');
    expect(style({ colour: true }, '', 'red')).toBe('');
    expect(style({ colour: false }, 'x', 'red')).toBe('x');
  });
});
