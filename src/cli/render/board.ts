import type { TsvEvent } from '../../model/events.ts';
import type { Plan, PlanNode, StepOutcome } from '../../model/plan.ts';
import { harmless } from './text.ts';
import { type Words, withoutName, wordsOf } from './words.ts';

/** Lines of output that are kept per machine: those of its last step. */
const mostTail = 20;
/** No screen shows more of a line. */
const longestTail = 500;

/** `waiting`: for other rows, before its first step or between two of them. */
export type RowState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped' | 'cancelled';

/** What a plan does to one thing: a machine, the network, a box. */
export interface Row {
  readonly name: string;
  readonly state: RowState;
  /** What is going on, what came out of it, or what it waits for. */
  readonly text: string;
  /** Milliseconds in which a step of it ran, without the time that it waited for others; undefined before the first. */
  readonly ms: number | undefined;
  /** The last lines of output of its last step. */
  readonly tail: readonly string[];
}

interface Step {
  readonly node: PlanNode;
  readonly words: Words;
  state: 'waiting' | 'running' | StepOutcome;
  progress: string;
}

interface Entry {
  readonly name: string;
  readonly steps: Step[];
  /** Milliseconds of the times that are over, undefined before the first step. */
  spent: number | undefined;
  /** When the first of the running steps began. */
  since: number | undefined;
  /** The running step that was heard of last. */
  current: Step | undefined;
  failure: string | undefined;
  tail: string[];
}

/** A plan while it is carried out, as rows to be drawn. */
export class Board {
  readonly #entries = new Map<string, Entry>();
  readonly #steps = new Map<number, Step>();

  constructor(plan: Plan) {
    for (const node of plan.nodes) {
      const words = wordsOf(node.action);
      const step: Step = { node, words, state: 'waiting', progress: '' };
      const known = this.#entries.get(words.row);
      const entry = known ?? {
        name: words.row,
        steps: [],
        spent: undefined,
        since: undefined,
        current: undefined,
        failure: undefined,
        tail: [],
      };
      entry.steps.push(step);
      this.#entries.set(entry.name, entry);
      this.#steps.set(node.id, step);
    }
  }

  get names(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Takes an event in. @returns false when it is about nothing on this board */
  apply(event: TsvEvent, now: number): boolean {
    if (event.type === 'output') return this.#output(event.machine, event.text);
    if (event.type !== 'step.start' && event.type !== 'step.progress' && event.type !== 'step.end') return false;
    const step = this.#steps.get(event.id);
    const entry = step && this.#entries.get(step.words.row);
    if (step === undefined || entry === undefined) return false;
    switch (event.type) {
      case 'step.start':
        step.state = 'running';
        entry.spent ??= 0;
        entry.since ??= now;
        entry.current = step;
        entry.tail = [];
        return true;
      case 'step.progress':
        step.progress = harmless(event.text);
        entry.current = step;
        return true;
      case 'step.end':
        step.state = event.outcome;
        entry.current = entry.steps.find(({ state }) => state === 'running');
        if (event.outcome === 'failed') {
          entry.failure ??= harmless(withoutName(event.error?.message ?? `${step.words.todo} failed`, entry.name));
        }
        if (entry.current === undefined && entry.since !== undefined) {
          entry.spent = (entry.spent ?? 0) + Math.max(0, now - entry.since);
          entry.since = undefined;
        }
        return true;
    }
  }

  /** Whether nothing more happens to this row. */
  isOver(name: string): boolean {
    const entry = this.#entries.get(name);
    return entry === undefined || isOver(entry);
  }

  /** In the order of the plan. */
  rows(now: number): Row[] {
    return [...this.#entries.values()].map((entry) => {
      const state = stateOf(entry);
      return {
        name: harmless(entry.name),
        state,
        text: this.#text(entry, state),
        ms: entry.spent === undefined ? undefined : entry.spent + Math.max(0, now - (entry.since ?? now)),
        tail: entry.tail,
      };
    });
  }

  #output(machine: string, text: string): boolean {
    const entry = this.#entries.get(machine);
    if (entry === undefined) return false;
    entry.tail.push(harmless(text.slice(0, longestTail)));
    if (entry.tail.length > mostTail) entry.tail.shift();
    return true;
  }

  #text(entry: Entry, state: RowState): string {
    switch (state) {
      case 'done':
        return resultOf(entry);
      case 'failed':
        return entry.failure ?? 'failed';
      case 'skipped':
      case 'cancelled':
        return state;
      case 'waiting':
        return this.#waitsFor(entry);
      case 'running':
        return entry.current === undefined ? '' : doingOf(entry.current);
    }
  }

  /** `waiting for web-1, db`; just `waiting` when only a free slot is missing. */
  #waitsFor({ name, steps }: Entry): string {
    const after = steps.find(({ state }) => state === 'waiting')?.node.after ?? [];
    const others = new Set<string>();
    for (const id of after) {
      const step = this.#steps.get(id);
      if (step && step.words.row !== name && (step.state === 'waiting' || step.state === 'running'))
        others.add(step.words.row);
    }
    return others.size === 0 ? 'waiting' : `waiting for ${[...others].map((other) => harmless(other)).join(', ')}`;
  }
}

const doingOf = ({ words, progress }: Step): string => harmless(words.doing) + (progress === '' ? '' : `: ${progress}`);

const isOver = ({ steps }: Entry): boolean => steps.every(({ state }) => state !== 'waiting' && state !== 'running');

function stateOf(entry: Entry): RowState {
  const some = (wanted: Step['state']): boolean => entry.steps.some(({ state }) => state === wanted);
  if (some('failed')) return 'failed';
  if (isOver(entry)) return some('cancelled') ? 'cancelled' : some('skipped') ? 'skipped' : 'done';
  return entry.current === undefined ? 'waiting' : 'running';
}

/** `ready` for a machine that was started and then provisioned, else what its last step made of it. */
function resultOf({ steps }: Entry): string {
  const last = steps.at(-1);
  if (last?.node.action.do === 'machine.provision' && steps.some(({ node }) => node.action.do === 'machine.wait'))
    return 'ready';
  return last?.words.result ?? 'ready';
}
