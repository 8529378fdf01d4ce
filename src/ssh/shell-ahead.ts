import type { ClientChannel } from 'ssh2';

/** Asks for a session with the loader of `command.ts`; rejects when the server refuses or the connection is lost. */
type Start = () => Promise<ClientChannel>;

/**
 * One session that is open before it is asked for: its loader waits in the machine for the lines of a program. What sshd and two
 * shells need to start (0.1 s on an emulated CPU) has then passed while nobody waited.
 */
export class ShellAhead {
  readonly #start: Start;
  #waiting: Promise<ClientChannel | undefined> | undefined;
  #refused = false;
  #leaving: Promise<boolean> | undefined;

  constructor(start: Start) {
    this.#start = start;
  }

  /** Opens one, unless there is one or the server has no room for it. */
  prepare(): void {
    if (this.#waiting !== undefined || this.#refused) return;
    const waiting = this.#start().catch(() => {
      this.#refused = true;
      return undefined;
    });
    this.#waiting = waiting;
    const gone = () => {
      if (this.#waiting === waiting) this.#waiting = undefined;
    };
    // 'close' comes when all is read, which nobody does; 'exit' when its shell was killed in the machine.
    void waiting.then((channel) => (channel === undefined ? gone() : channel.once('exit', gone)));
  }

  /** The one that waits, which is the caller's now; undefined: there is none. */
  async take(): Promise<ClientChannel | undefined> {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    return waiting;
  }

  /** Makes room for another session, and opens none any more. Resolves when it is closed; false: there was none. */
  giveUp(): Promise<boolean> {
    this.#refused = true;
    this.#leaving ??= this.#leave().finally(() => {
      this.#leaving = undefined;
    });
    return this.#leaving;
  }

  async #leave(): Promise<boolean> {
    const channel = await this.take();
    if (channel === undefined) return false;
    channel.resume().stderr.resume(); // it closes when everything it had to say is read
    await new Promise<void>((resolve) => {
      channel.once('close', () => resolve());
      channel.end();
    });
    return true;
  }
}
