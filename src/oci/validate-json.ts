/** Tokens of RFC 8259 that are neither punctuation nor text. */
const literal = /true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const escaped = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
const space = /[ \t\r\n]*/y;

type Wanted =
  | 'a value'
  | 'a value or ]'
  | 'a key'
  | 'a key or }'
  | 'a colon'
  | 'a comma or ]'
  | 'a comma or }'
  | 'the end';

export interface JsonMistake {
  /** From 1; columns count UTF-16 units. */
  readonly line: number;
  readonly column: number;
  readonly message: string;
}

/** The first place where a text is not JSON, RFC 8259; undefined if there is none. (JSON.parse does not always name it.) */
export function findJsonMistake(text: string): JsonMistake | undefined {
  const open: ('{' | '[')[] = [];
  let at = 0;
  let wanted: Wanted = 'a value';

  const mistake = (message: string, offset = at): JsonMistake => {
    const before = text.slice(0, offset);
    const lineStart = before.lastIndexOf('\n') + 1;
    return { line: before.split('\n').length, column: offset - lineStart + 1, message };
  };
  const skip = (token: RegExp): boolean => {
    token.lastIndex = at;
    if (!token.test(text)) return false;
    at = token.lastIndex;
    return true;
  };
  const skipText = (): JsonMistake | undefined => {
    const start = at++;
    for (; at < text.length; at++) {
      const character = text.charAt(at);
      if (character === '"') {
        at++;
        return undefined;
      }
      if (character < ' ') return mistake('a control character in a text; write it as an escape');
      if (character === '\\') {
        if (!skip(escaped)) return mistake('an unknown escape in a text');
        at--;
      }
    }
    return mistake('a text that does not end', start);
  };
  const afterValue = (): Wanted =>
    open.length === 0 ? 'the end' : open.at(-1) === '[' ? 'a comma or ]' : 'a comma or }';

  for (;;) {
    skip(space);
    const character = text.charAt(at);
    if (character === '') return wanted === 'the end' ? undefined : mistake(`the text ends, ${wanted} is missing`);
    if (wanted.endsWith(character) && (character === ']' || character === '}')) {
      open.pop();
      at++;
      wanted = afterValue();
    } else if (wanted === 'a colon' && character === ':') {
      at++;
      wanted = 'a value';
    } else if ((wanted === 'a comma or ]' || wanted === 'a comma or }') && character === ',') {
      at++;
      wanted = wanted === 'a comma or ]' ? 'a value' : 'a key';
    } else if ((wanted === 'a key' || wanted === 'a key or }') && character === '"') {
      const inText = skipText();
      if (inText !== undefined) return inText;
      wanted = 'a colon';
    } else if (wanted === 'a value' || wanted === 'a value or ]') {
      if (character === '{' || character === '[') {
        open.push(character);
        at++;
        wanted = character === '{' ? 'a key or }' : 'a value or ]';
      } else if (character === '"') {
        const inText = skipText();
        if (inText !== undefined) return inText;
        wanted = afterValue();
      } else if (skip(literal)) wanted = afterValue();
      else return mistake(`${JSON.stringify(character)} where ${wanted} should be`);
    } else return mistake(`${JSON.stringify(character)} where ${wanted} should be`);
  }
}
