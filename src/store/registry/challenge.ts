/** One way to prove who one is, as a server offers it. */
export interface Challenge {
  /** In lower case: `bearer`, `basic`. */
  readonly scheme: string;
  /** Names in lower case; the first of a name counts. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** Longer ones are no challenges of a registry. */
const lengthLimit = 8192;

/**
 * The challenges of a WWW-Authenticate field (RFC 9110 section 11.6.1): several in one field, quoted values with
 * escapes, commas within quotes, spaces around `=`. What cannot be read ends the list: what came before it counts.
 */
export function parseChallenges(field: string): Challenge[] {
  if (field.length > lengthLimit) return [];
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  const text = new Scanner(field);
  for (;;) {
    text.skip(/[\s,]*/y);
    const word = text.take(/[!#$%&'*+.^_`|~0-9A-Za-z-]+/y);
    if (word === undefined) return challenges;
    const current = challenges.at(-1);
    if (text.take(/[ \t]*=[ \t]*/y) === undefined || current === undefined) {
      challenges.push({ scheme: word.toLowerCase(), parameters: {} });
      // A token68 (`Negotiate abc==`) belongs to no parameter; it is followed by a comma or the end.
      text.skip(/[ \t]+[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y);
      continue;
    }
    const quoted = text.take(/"(?:[^"\\]|\\.)*"/sy);
    const value = quoted?.slice(1, -1).replace(/\\(.)/gs, '$1') ?? text.take(/[^\s,"]+/y);
    if (value === undefined) return challenges;
    const name = word.toLowerCase();
    if (!Object.hasOwn(current.parameters, name))
      Object.defineProperty(current.parameters, name, { value, enumerable: true });
  }
}

class Scanner {
  private at = 0;
  private readonly text: string;

  constructor(text: string) {
    this.text = text;
  }

  /** What a sticky pattern matches here; undefined when it does not. */
  take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0];
    this.at += found?.length ?? 0;
    return found;
  }

  skip(pattern: RegExp): void {
    this.take(pattern);
  }
}
