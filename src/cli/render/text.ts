// Control characters are what this file is about.
// biome-ignore-all lint/suspicious/noControlCharactersInRegex: see above

/** A colour or other look: SGR, `ESC [ … m`. It can do nothing but change how the following text looks. */
const sgr = /^\x1b\[[\d;:]*m$/;

/**
 * Everything that could move the cursor, set the title, answer, or reorder text (ECMA-48, 5.4 and 8.3; Unicode Cf):
 * control sequences, control strings up to their end, other escapes, single C0 and C1 controls, invisible format
 * characters and variation selectors, halves of surrogate pairs.
 */
const harmful = new RegExp(
  [
    String.raw`(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]`,
    String.raw`(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)`,
    String.raw`\x1b[ -/]*[0-~]`,
    String.raw`[\0-\x1f\x7f-\x9f]`,
    String.raw`[\p{Cf}\p{Cs}\p{Zl}\p{Zp}\ufe00-\ufe0f\u{e0100}-\u{e01ef}]`,
  ].join('|'),
  'gu',
);

/**
 * One line of text that was made elsewhere (by a guest, a tool, a file name), made harmless: escape sequences and
 * control characters go, a tab becomes four spaces, a line break one. With `colours`, SGR sequences stay and the line
 * ends with a reset.
 */
export function harmless(text: string, colours = false): string {
  let coloured = false;
  const clean = text.replace(harmful, (found) => {
    if (colours && sgr.test(found)) {
      coloured = true;
      return found;
    }
    if (found === '\t') return '    ';
    if (found === '\n' || found === '\u2028' || found === '\u2029') return ' ';
    return /^\p{Cs}$/u.test(found) ? '\ufffd' : '';
  });
  return coloured ? `${clean}\x1b[0m` : clean;
}

/** The lines of a text of elsewhere, each {@link harmless}. */
export const harmlessLines = (text: string): string[] => text.split(/\r\n|\n/).map((line) => harmless(line));

/** Two columns wide: East Asian Wide and Fullwidth (UAX 11) by block, and all that is drawn as emoji. */
const wide =
  /[\u1100-\u115f\u2329\u232a\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe10-\ufe19\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{1b2ff}\u{1f000}-\u{1faff}\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/u;
const noWidth = /[\p{Mn}\p{Me}\p{Cf}]/u;

const characterWidth = (character: string): number => (noWidth.test(character) ? 0 : wide.test(character) ? 2 : 1);

/** Columns that a line takes in a terminal; SGR sequences take none. Rather too many than too few. */
export function displayWidth(text: string): number {
  const bare = text.replace(/\x1b\[[\d;:]*m/g, '');
  if (/^[ -~]*$/.test(bare)) return bare.length;
  let width = 0;
  for (const character of bare) width += characterWidth(character);
  return width;
}

/** The line, or as much of its start as fits into `width` columns with the ellipsis behind it. Colours end with it. */
export function truncate(text: string, width: number, ellipsis = '…'): string {
  if (displayWidth(text) <= width) return text;
  const room = width - displayWidth(ellipsis);
  if (room < 0) return ellipsis.slice(0, Math.max(0, width));
  let shown = '';
  let used = 0;
  let coloured = false;
  for (const [token] of text.matchAll(/\x1b\[[\d;:]*m|./gsu)) {
    const isColour = sgr.test(token);
    const size = isColour ? 0 : characterWidth(token);
    if (used + size > room) break;
    coloured ||= isColour;
    used += size;
    shown += token;
  }
  return `${shown}${coloured ? '\x1b[0m' : ''}${ellipsis}`;
}

/** Spaces behind the text up to `width` columns. */
export const padEnd = (text: string, width: number): string =>
  text + ' '.repeat(Math.max(0, width - displayWidth(text)));

/** `0.4s`, `12s`, `1m04s`, `2h07m`. */
export function formatDuration(ms: number): string {
  const safe = Math.max(0, ms);
  if (safe < 9_950) return `${(safe / 1000).toFixed(1)}s`;
  const seconds = Math.round(safe / 1000);
  if (seconds < 60) return `${seconds}s`;
  const two = (value: number): string => String(value).padStart(2, '0');
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${two(seconds % 60)}s`;
  return `${Math.floor(seconds / 3600)}h${two(Math.floor(seconds / 60) % 60)}m`;
}

/** `1 line`, `2 lines`. */
export const count = (amount: number, one: string, many = `${one}s`): string =>
  `${amount} ${amount === 1 ? one : many}`;
