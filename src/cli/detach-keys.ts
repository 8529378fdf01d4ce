/** As docker's default. */
export const defaultDetachKeys = 'ctrl-p,ctrl-q';

/**
 * `ctrl-p,ctrl-q`, `a,b`: keys separated by commas, each one ASCII character or `ctrl-` with a letter or one of `@[\]^_`, as
 * docker attach takes them. Undefined: it is none.
 */
export function parseDetachKeys(text: string): Buffer | undefined {
  const keys = text.split(',').map((key) => {
    const [, control] = /^ctrl-([a-z@[\\\]^_])$/i.exec(key) ?? [];
    if (control !== undefined) return control.toUpperCase().charCodeAt(0) & 0x1f;
    return /^[\x20-\x7e]$/.test(key) ? key.charCodeAt(0) : undefined;
  });
  return keys.every((key) => key !== undefined) ? Buffer.from(keys) : undefined;
}

/** Finds the keys that detach in what is typed. The beginning of them is held back until the next key. */
export class DetachKeys {
  readonly #keys: Buffer;
  #held = 0;

  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  /** `send`: what is for the machine; what comes after the keys is for nobody. */
  take(typed: Buffer): { readonly send: Buffer; readonly detached: boolean } {
    const all = Buffer.concat([this.#keys.subarray(0, this.#held), typed]);
    const at = all.indexOf(this.#keys);
    if (at >= 0) return { send: all.subarray(0, at), detached: true };
    this.#held = this.#beginningAtEndOf(all);
    return { send: all.subarray(0, all.length - this.#held), detached: false };
  }

  #beginningAtEndOf(bytes: Buffer): number {
    for (let length = Math.min(this.#keys.length - 1, bytes.length); length > 0; length--)
      if (bytes.subarray(bytes.length - length).equals(this.#keys.subarray(0, length))) return length;
    return 0;
  }
}
