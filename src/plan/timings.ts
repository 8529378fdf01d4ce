import type { TsvEvent } from '../model/events.ts';
import type { Plan, PlanNode } from '../model/plan.ts';
import type { Timed, TimedPart, Timings } from '../model/timings.ts';
import { printAction } from './print.ts';

type StepEnd = TsvEvent & { readonly type: 'step.end' };

/** A plan, and how its steps went so far. */
interface Run {
  readonly plan: Plan;
  readonly ends: Map<number, StepEnd>;
  readonly parts: Map<number, TimedPart[]>;
}

/**
 * Where the time of a command went, by its events. Pure.
 * What is no step took place before what follows; the steps of a plan that was carried out in such a time are its parts.
 */
export function timingsOf(events: Iterable<TsvEvent>, wallMs: number): Timings {
  const phases: Timed[] = [];
  let run: Run | undefined;
  for (const event of events) {
    if (event.type === 'plan') run = { plan: event.plan, ends: new Map(), parts: new Map() };
    else if (event.type === 'step.end') run?.ends.set(event.id, event);
    else if (event.type === 'timing' && event.id !== undefined) {
      const part = { what: event.what, ms: event.ms };
      run?.parts.set(event.id, [...(run.parts.get(event.id) ?? []), part]);
    } else if (event.type === 'timing') {
      const parts = run === undefined ? [] : stepsOf(run).map(({ node, end }) => asPart(node, end));
      phases.push({ what: event.what, ms: event.ms, critical: true, parts });
      run = undefined;
    }
  }
  if (run !== undefined) phases.push(...timedSteps(run));
  const criticalMs = phases.reduce((sum, { critical, ms }) => sum + (critical ? ms : 0), 0);
  return { phases, criticalMs, wallMs };
}

const asPart = ({ action }: PlanNode, { ms }: StepEnd): TimedPart => ({ what: printAction(action), ms });

const stepsOf = ({ plan, ends }: Run): { readonly node: PlanNode; readonly end: StepEnd }[] =>
  plan.nodes.flatMap((node) => {
    const end = ends.get(node.id);
    return end === undefined || end.outcome === 'skipped' ? [] : [{ node, end }];
  });

function timedSteps(run: Run): Timed[] {
  const critical = criticalPath(run.plan, (id) => run.ends.get(id)?.ms ?? 0);
  return stepsOf(run).map(({ node: { id, action }, end: { outcome, ms } }) => ({
    action,
    outcome,
    ms,
    critical: critical.has(id),
    parts: run.parts.get(id) ?? [],
  }));
}

/** The steps of a plan that take longest one after the other, each depending on the one before. Pure. */
export function criticalPath({ nodes }: Plan, msOf: (id: number) => number): ReadonlySet<number> {
  /** By step: when it is over at the earliest, and which step before it says so. */
  const over = new Map<number, { readonly ms: number; readonly before: number | undefined }>();
  let last: number | undefined;
  const overMs = (id: number | undefined): number => (id === undefined ? 0 : (over.get(id)?.ms ?? 0));
  // Ids are topologically ordered.
  for (const { id, after } of nodes) {
    const before = after.reduce<number | undefined>(
      (latest, other) => (latest === undefined || overMs(other) > overMs(latest) ? other : latest),
      undefined,
    );
    over.set(id, { ms: overMs(before) + msOf(id), before });
    if (last === undefined || overMs(id) > overMs(last)) last = id;
  }
  const path = new Set<number>();
  for (let id = last; id !== undefined; id = over.get(id)?.before) path.add(id);
  return path;
}
