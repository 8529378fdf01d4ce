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

  /** How many are open or asked for. */
  get taken(): number {
    return this.#taken;
  }

  /**
   * The other side refused one that was asked for as number `nth`: from now on fewer than that. By the time of the
   * refusal the others may have closed. false: it was the only one, and asking again is of no use.
   */
  shrink(nth: number): boolean {
    if (nth <= 1) return false;
    this.#limit = Math.min(this.#limit, nth - 1);
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
