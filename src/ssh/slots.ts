/**
 * A bound on what is open at once. sshd refuses more than MaxSessions (10) sessions on one connection
 * (sshd_config(5)); what does not fit waits its turn, in order.
 */
export class Slots {
  #limit: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Resolves with the function that gives the slot back (once; further calls do nothing). */
  async take(): Promise<() => void> {
    if (this.#taken >= this.#limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#taken++;
    let given = false;
    return () => {
      if (given) return;
      given = true;
      this.#taken--;
      this.#wake();
    };
  }

  /** The other side refused one more: from now on only as many as were open then. false: nothing else is open. */
  shrink(): boolean {
    if (this.#taken <= 1) return false;
    this.#limit = Math.min(this.#limit, this.#taken - 1);
    return true;
  }

  #wake(): void {
    if (this.#taken >= this.#limit) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#taken++;
    next();
  }
}
