import type { Action, Plan, PlanNode } from '../model/plan.ts';

/**
 * Collects nodes in an order in which dependencies come first, so that ids are topologically ordered by
 * construction. Names of earlier nodes that another dependency already implies are left out of `after`.
 */
export class PlanBuilder {
  readonly #nodes: PlanNode[] = [];
  /** By id: everything that comes before the node. */
  readonly #before = new Map<number, ReadonlySet<number>>();

  /** Adds a node and returns its id. `undefined` in `after` stands for "there is no such node". */
  add(action: Action, cause: string, after: Iterable<number | undefined> = []): number {
    const id = this.#nodes.length + 1;
    const wanted = [...new Set(after)].filter((other) => other !== undefined).sort((a, b) => a - b);
    const direct = wanted.filter((other) => !wanted.some((further) => this.#before.get(further)?.has(other)));
    this.#before.set(id, new Set(direct.flatMap((other) => [other, ...(this.#before.get(other) ?? [])])));
    this.#nodes.push({ id, action, cause, after: direct });
    return id;
  }

  plan(): Plan {
    return { nodes: this.#nodes };
  }
}
