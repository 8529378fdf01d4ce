import { TsvError, toTsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { Plan, PlanNode, StepOutcome } from '../model/plan.ts';
import { printAction } from './print.ts';
import { UndoStack } from './undo.ts';

/** What a step gets besides its node. */
export interface StepContext {
  /** Fires when the command is interrupted. */
  readonly signal: AbortSignal;
  /** Shown next to the step while it runs. */
  progress(text: string): void;
  /** The step's own stack: run when the step fails or is interrupted, dropped when it succeeds. */
  readonly undo: UndoStack;
}

export interface ExecuteOptions {
  /** Does one action. Rejects with a TsvError, or, when `signal` fired, with whatever the interruption caused. */
  run(node: PlanNode, context: StepContext): Promise<void>;
  /** Called before and after each step that runs, with the step as {@link printAction} names it. */
  journal(step: string, phase: 'start' | 'done' | 'failed' | 'cancelled', error?: string): void;
  readonly emit: Emit;
  /** Most steps at once, 1 or more. */
  readonly parallel: number;
  readonly signal: AbortSignal;
}

export interface StepResult {
  readonly node: PlanNode;
  readonly outcome: StepOutcome;
  readonly ms: number;
  /** Set when it failed, and when an interruption ended it with more than an AbortError. */
  readonly error?: TsvError;
}

export interface ExecutionResult {
  /** One for every node of the plan, in its order. */
  readonly steps: readonly StepResult[];
  /** The signal fired before everything was done. */
  readonly cancelled: boolean;
}

/**
 * Runs a plan and decides nothing: starts what is ready, lowest id first, at most `parallel` at once. After a failure
 * everything that depends on the step is skipped and the rest goes on; after the signal nothing new starts.
 * Resolves when no step runs any more; never rejects because of a step.
 */
export async function execute(plan: Plan, options: ExecuteOptions): Promise<ExecutionResult> {
  const { emit, signal, parallel } = options;
  const results = new Map<number, StepResult>();
  const waiting = new Map(plan.nodes.map((node) => [node.id, node]));
  const running = new Map<number, Promise<void>>();
  const journal = tolerantJournal(options);

  const settle = (result: StepResult): void => {
    results.set(result.node.id, result);
    const { outcome, ms, error, node } = result;
    emit({ type: 'step.end', id: node.id, outcome, ms, ...(error === undefined ? {} : { error: error.toJSON() }) });
  };
  const leaveOut = (node: PlanNode, outcome: 'skipped' | 'cancelled'): void => {
    waiting.delete(node.id);
    settle({ node, outcome, ms: 0 });
  };
  const outcomeOf = (id: number): StepOutcome | undefined => results.get(id)?.outcome;

  for (;;) {
    // Ids are topologically ordered, so one pass carries a failure to all that depend on it.
    for (const node of [...waiting.values()]) {
      if (node.after.some((id) => outcomeOf(id) === 'failed' || outcomeOf(id) === 'skipped')) leaveOut(node, 'skipped');
      else if (signal.aborted) leaveOut(node, 'cancelled');
      else if (running.size < Math.max(1, parallel) && node.after.every((id) => outcomeOf(id) === 'done')) {
        waiting.delete(node.id);
        const step = runStep(node, options, journal).then((result) => {
          running.delete(node.id);
          settle(result);
        });
        running.set(node.id, step);
      }
    }
    if (running.size === 0) break;
    await Promise.race(running.values());
  }

  const steps = plan.nodes.flatMap((node) => results.get(node.id) ?? []);
  return { steps, cancelled: steps.some(({ outcome }) => outcome === 'cancelled') };
}

async function runStep(
  node: PlanNode,
  options: ExecuteOptions,
  journal: ExecuteOptions['journal'],
): Promise<StepResult> {
  const { run, emit, signal } = options;
  const step = printAction(node.action);
  const begun = performance.now();
  const ms = (): number => Math.round(performance.now() - begun);
  const undo = new UndoStack();
  journal(step, 'start');
  emit({ type: 'step.start', id: node.id });
  try {
    await run(node, { signal, undo, progress: (text) => emit({ type: 'step.progress', id: node.id, text }) });
  } catch (thrown) {
    const failures = await undo.run();
    const outcome = signal.aborted ? 'cancelled' : 'failed';
    const aborted = outcome === 'cancelled' && isAbort(thrown) && failures.length === 0;
    const error = aborted ? undefined : withUndoFailures(toTsvError(thrown), failures);
    journal(step, outcome, error?.message);
    return { node, outcome, ms: ms(), ...(error === undefined ? {} : { error }) };
  }
  undo.done();
  journal(step, 'done');
  return { node, outcome: 'done', ms: ms() };
}

const isAbort = (error: unknown): boolean =>
  (error instanceof TsvError && error.code === 'TSV_CANCELLED') ||
  (error instanceof Error && error.name === 'AbortError');

function withUndoFailures(error: TsvError, failures: Awaited<ReturnType<UndoStack['run']>>): TsvError {
  if (failures.length === 0) return error;
  const undone = failures.map(({ name, error: why }) => `could not be undone: ${name}: ${toTsvError(why).message}`);
  return withDetails(error, undone);
}

/** A journal that cannot be written (full disk) must not stop a `destroy` that would make room: one warning, then on. */
function tolerantJournal({ journal, emit }: ExecuteOptions): ExecuteOptions['journal'] {
  let warned = false;
  return (...entry) => {
    try {
      journal(...entry);
    } catch (error) {
      if (!warned) emit({ type: 'warning', text: `the journal cannot be written: ${toTsvError(error).message}` });
      warned = true;
    }
  };
}

function withDetails(error: TsvError, more: readonly string[]): TsvError {
  return new TsvError(error.code, error.message, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    details: [...error.details, ...more],
    exitCode: error.exitCode,
    cause: error.cause ?? error,
  });
}

/**
 * The error that a command ends with, or undefined when all was done: TSV_CANCELLED (exit 130) after an interruption,
 * the one failed step's own error, or TSV_STEPS_FAILED with each failed step's message, details and hint.
 */
export function executionError(result: ExecutionResult): TsvError | undefined {
  const failed = result.steps.flatMap(({ node, outcome, error }) =>
    outcome !== 'done' && error ? [{ node, error }] : [],
  );
  const count = (outcome: StepOutcome) => result.steps.filter((step) => step.outcome === outcome);
  const skipped = count('skipped').map(({ node }) => printAction(node.action));
  const skippedLine = skipped.length === 0 ? [] : [`not done because of that: ${skipped.join(', ')}`];
  const all = failed.flatMap(({ node, error }) => [
    `${printAction(node.action)}: ${error.message}`,
    ...error.details.map((detail) => `  ${detail}`),
    ...(error.hint === undefined ? [] : [`  hint: ${error.hint}`]),
  ]);

  if (result.cancelled) {
    return new TsvError('TSV_CANCELLED', `interrupted after ${count('done').length} of ${result.steps.length} steps`, {
      details: [...all, ...skippedLine],
      hint: 'run the command again to go on',
      exitCode: 130,
    });
  }
  const [first] = failed;
  if (first === undefined) return undefined;
  if (failed.length === 1) return withDetails(first.error, skippedLine);
  return new TsvError('TSV_STEPS_FAILED', `${failed.length} of ${result.steps.length} steps failed`, {
    details: [...all, ...skippedLine],
    hint: 'the other steps were done; mend the cause and run the command again',
    cause: first.error,
  });
}
