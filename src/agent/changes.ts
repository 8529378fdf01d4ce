/** Tells those who wait that something has happened to a machine, or that a command has ended. They look for themselves. */
export class Changes {
  readonly #waiting = new Set<() => void>();

  tell(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next {@link tell}. @throws the signal's reason */
  next(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (end: () => void): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', onAbort);
        end();
      };
      const wake = () => leave(resolve);
      const onAbort = () => leave(() => reject(signal.reason));
      if (signal.aborted) return reject(signal.reason);
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
