import type { Health } from '../model/state.ts';
import { type Check, noCheck, unhealthy } from './health-check.ts';
import { type Answer, type Asked, ask, type Ways } from './health-question.ts';

/** Time, as far as a watch needs it. */
export interface Clock {
  /** Milliseconds since some moment; never goes back. */
  now(): number;
  /** Calls back once, that much later. The result takes that back. */
  after(ms: number, call: () => void): () => void;
}

const realClock: Clock = {
  now: () => performance.now(),
  after: (ms, call) => {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

export interface HealthOptions {
  /** What the machine is asked; undefined: nothing. */
  check(name: string): Check | undefined;
  ways(name: string): Ways;
  /** What the state says of it. */
  health(name: string): Health | undefined;
  /** It is paused, or has ended and nobody has said so yet: what it answers says nothing. */
  standsStill(name: string): boolean;
  /** Never rejects. */
  update(name: string, health: Health | undefined): Promise<void>;
  happened(name: string, health: Health): void;
  /** The end of what the machine has printed, for the message. */
  printed(name: string): readonly string[];
  readonly clock?: Clock;
}

/** The watch over one machine, from when it is ready until it ends. */
interface Watch {
  check: Check;
  ended: boolean;
  /** Provisioning steps that are at work in it: what it answers meanwhile says nothing. */
  holds: number;
  /** When it became ready, or was last provisioned: the start period begins. */
  since: number;
  /** In a row. */
  failures: number;
  /** When the last failure was counted. */
  countedAt: number;
  /** Grows when what is under way is of no interest any more. */
  round: number;
  asked: Asked | undefined;
  /** A question that was given up, and has not ended yet. */
  hanging: boolean;
  /** Ends the pause between two questions. */
  wake: () => void;
  /** Somebody wanted no pause, when there was none. */
  hurry: boolean;
}

interface Waiter {
  /** The first question whose answer counts. */
  readonly from: number;
  failures: number;
  resolve(): void;
  reject(error: Error): void;
}

/**
 * Asks machines how they are for as long as they run, each in its own time. Of one machine there is never more than one
 * question at once, and what it answers is kept only as far as a message needs it.
 */
export class HealthWatches {
  readonly #options: HealthOptions;
  readonly #clock: Clock;
  readonly #watches = new Map<string, Watch>();
  readonly #waiters = new Map<string, Set<Waiter>>();
  #questions = 0;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.#clock = options.clock ?? realClock;
  }

  /** Begins to watch a machine that is ready. Watched already: takes over a check that has changed. */
  ensure(name: string): void {
    const check = this.#options.check(name);
    const watch = this.#watches.get(name);
    if (check === undefined) {
      this.stop(name);
      if (this.#options.health(name) !== undefined) void this.#options.update(name, undefined);
    } else if (watch === undefined) this.#begin(name, check);
    else if (JSON.stringify(watch.check) !== JSON.stringify(check)) {
      watch.check = check;
      this.#afresh(watch);
    }
  }

  /** The machine has ended, or is about to. Whoever waits for its health goes on waiting. */
  stop(name: string): void {
    const watch = this.#watches.get(name);
    if (watch === undefined) return;
    this.#watches.delete(name);
    watch.ended = true;
    watch.asked?.cut();
    watch.wake();
  }

  /** The machine is not asked while the work is done, and afterwards as if it had just started. */
  async without<T>(name: string, work: () => Promise<T>): Promise<T> {
    const watch = this.#watches.get(name);
    if (watch === undefined) return work();
    watch.holds++;
    try {
      return await work();
    } finally {
      watch.holds--;
      this.#afresh(watch);
    }
  }

  /**
   * Resolves when the machine is healthy by a question that is asked from now on; it is asked at once.
   * @throws TSV_UNHEALTHY after `retries` failures in a row from now on, or when it has no check
   */
  healthy(name: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#options.check(name) === undefined) return reject(noCheck(name));
      if (signal.aborted) return reject(signal.reason);
      const waiters = this.#waiters.get(name) ?? new Set();
      this.#waiters.set(name, waiters);
      const leave = (end: () => void): void => {
        waiters.delete(waiter);
        signal.removeEventListener('abort', onAbort);
        end();
      };
      const onAbort = () => leave(() => reject(signal.reason));
      const waiter: Waiter = {
        from: this.#questions + 1,
        failures: 0,
        resolve: () => leave(resolve),
        reject: (error) => leave(() => reject(error)),
      };
      waiters.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
      const watch = this.#watches.get(name);
      if (watch === undefined) return;
      watch.hurry = true;
      watch.wake();
    });
  }

  #begin(name: string, check: Check): void {
    const watch: Watch = {
      check,
      ended: false,
      holds: 0,
      since: this.#clock.now(),
      failures: 0,
      countedAt: Number.NEGATIVE_INFINITY,
      round: 0,
      asked: undefined,
      hanging: false,
      wake: () => {},
      hurry: false,
    };
    this.#watches.set(name, watch);
    if (this.#options.health(name) === undefined) this.#say(name, 'starting');
    void this.#run(name, watch);
  }

  #afresh(watch: Watch): void {
    watch.since = this.#clock.now();
    watch.failures = 0;
    watch.countedAt = Number.NEGATIVE_INFINITY;
    watch.round++;
    watch.hurry = true;
    watch.wake();
  }

  async #run(name: string, watch: Watch): Promise<void> {
    while (!watch.ended) {
      watch.hurry = false;
      if (!this.#isOff(name, watch)) await this.#look(name, watch);
      if (!watch.ended && !watch.hurry) await this.#pause(name, watch);
    }
  }

  #isOff = (name: string, watch: Watch): boolean => watch.holds > 0 || this.#options.standsStill(name);

  async #look(name: string, watch: Watch): Promise<void> {
    const { round } = watch;
    const question = ++this.#questions;
    const answer = await this.#answerOf(name, watch);
    // Of a machine that has stood still meanwhile, or to a question that nobody asks any more.
    if (watch.ended || watch.round !== round || this.#isOff(name, watch)) return;
    if (answer.healthy) {
      watch.failures = 0;
      this.#say(name, 'healthy');
      for (const waiter of this.#waitersSince(name, question)) waiter.resolve();
    } else this.#failed(name, watch, question, answer);
  }

  /** Within the check's time. A question that was given up may end later; until then no other is asked. */
  #answerOf(name: string, watch: Watch): Promise<Answer> {
    const { timeoutMs, question } = watch.check;
    if (watch.hanging)
      return Promise.resolve({
        healthy: false,
        why: 'the check before this one was killed and has not ended',
        output: [],
      });
    const asked = ask(question, this.#options.ways(name));
    watch.asked = asked;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(timeoutMs, () => {
        watch.hanging = true;
        const output = asked.said();
        asked.cut();
        resolve({ healthy: false, why: `no answer within ${timeoutMs} ms`, output });
      });
      void asked.answer.then((answer) => {
        cancel();
        watch.hanging = false;
        watch.asked = undefined;
        resolve(answer);
      });
    });
  }

  #failed(name: string, watch: Watch, question: number, answer: Extract<Answer, { healthy: false }>): void {
    const { check } = watch;
    const now = this.#clock.now();
    if (check.startPeriodMs > 0 && now - watch.since <= check.startPeriodMs) return;
    // Asked more often because somebody waits, it is not given up any sooner.
    if (check.waitedEveryMs !== undefined && now - watch.countedAt < check.everyMs) return;
    watch.countedAt = now;
    watch.failures++;
    if (watch.failures >= check.retries) this.#say(name, 'unhealthy', [answer.why, ...answer.output].join('\n'));
    for (const waiter of this.#waitersSince(name, question)) {
      waiter.failures++;
      if (waiter.failures >= check.retries)
        waiter.reject(unhealthy(name, check, waiter.failures, answer, this.#options.printed(name)));
    }
  }

  #waitersSince = (name: string, question: number): Waiter[] =>
    [...(this.#waiters.get(name) ?? [])].filter(({ from }) => from <= question);

  /** Writes it down when it is news. */
  #say(name: string, status: Health['status'], reason?: string): void {
    if (this.#options.health(name)?.status === status) return;
    const health = { status, since: new Date().toISOString(), ...(reason === undefined ? {} : { reason }) };
    void this.#options.update(name, health);
    if (status !== 'starting') this.#options.happened(name, health);
  }

  #pause(name: string, watch: Watch): Promise<void> {
    const { everyMs, waitedEveryMs = everyMs } = watch.check;
    const isAwaited = (this.#waiters.get(name)?.size ?? 0) > 0;
    return new Promise((resolve) => {
      const cancel = this.#clock.after(isAwaited ? Math.min(everyMs, waitedEveryMs) : everyMs, resolve);
      watch.wake = () => {
        watch.wake = () => {};
        cancel();
        resolve();
      };
    });
  }
}
