/** One undo that did not work. */
export interface UndoFailure {
  readonly name: string;
  readonly error: unknown;
}

/**
 * Takes back what already took hold when a later part of the same work fails: `add` right after each part that
 * succeeded, `done` at the end, `run` in the failure path.
 */
export class UndoStack {
  #entries: { readonly name: string; readonly undo: () => void | Promise<void> }[] = [];

  /** `name` says in a few words what is undone, for the message when that fails. */
  add(name: string, undo: () => void | Promise<void>): void {
    this.#entries.push({ name, undo });
  }

  /** The work is complete: nothing will be undone. */
  done(): void {
    this.#entries = [];
  }

  /** Undoes in reverse order, each once, and goes on when one fails. Never throws. */
  async run(): Promise<readonly UndoFailure[]> {
    const failures: UndoFailure[] = [];
    for (let entry = this.#entries.pop(); entry !== undefined; entry = this.#entries.pop()) {
      try {
        await entry.undo();
      } catch (error) {
        failures.push({ name: entry.name, error });
      }
    }
    return failures;
  }
}
