import type { Action, Plan, PlanNode } from '../../model/plan.ts';
import { printAction } from '../../plan/print.ts';
import { type Style, style, type Terminal } from './terminal.ts';
import { count, displayWidth, harmless, padEnd } from './text.ts';
import { wordsOf } from './words.ts';

type Sign = '+' | '~' | '-';

const signStyles: Readonly<Record<Sign, Style>> = { '+': 'green', '~': 'yellow', '-': 'red' };

/** Why a follow-up step is there says nothing of its own. */
const followsStart = (action: Action): boolean =>
  action.do === 'machine.wait' || action.do === 'machine.healthy' || action.do === 'machine.completed';

interface Line {
  readonly todo: string[];
  readonly cause: string;
}

/**
 * A plan for people: what is done to each machine, network and box and why, then the sums; a line break at the end.
 * The order of the steps is that of the plan, per row.
 */
export function renderPlan(plan: Plan, terminal: Pick<Terminal, 'colour'>): string {
  if (plan.nodes.length === 0) return 'nothing to do\n';
  const groups = groupByRow(plan.nodes);
  const rows = [...groups].map(([name, nodes]) => ({
    name: harmless(name),
    sign: signOf(nodes),
    lines: linesOf(nodes),
  }));
  const nameWidth = Math.max(...rows.map(({ name }) => displayWidth(name)));
  const todoWidth = Math.max(...rows.flatMap(({ lines }) => lines.map(({ todo }) => displayWidth(todo.join(', ')))));
  const text = rows.flatMap(({ name, sign, lines }) =>
    lines.map(({ todo, cause }, index) => {
      const head =
        index === 0
          ? `${style(terminal, sign, signStyles[sign])} ${padEnd(name, nameWidth)}`
          : ' '.repeat(nameWidth + 2);
      return `${head}  ${padEnd(todo.join(', '), todoWidth)}  ${style(terminal, harmless(cause), 'dim')}`.trimEnd();
    }),
  );
  return `${[...text, '', planCounts(plan)].join('\n')}\n`;
}

/** The plan for programs: the nodes, each with the name of its step, and the sums. */
export const planJson = (plan: Plan): string =>
  `${JSON.stringify({
    changes: plan.nodes.length,
    summary: planCounts(plan),
    nodes: plan.nodes.map((node) => ({ ...node, step: printAction(node.action) })),
  })}\n`;

function groupByRow(nodes: readonly PlanNode[]): Map<string, PlanNode[]> {
  const groups = new Map<string, PlanNode[]>();
  for (const node of nodes) {
    const { row } = wordsOf(node.action);
    groups.set(row, [...(groups.get(row) ?? []), node]);
  }
  return groups;
}

/** Neighbours with one cause share a line. */
function linesOf(nodes: readonly PlanNode[]): Line[] {
  const starts = nodes.some(({ action }) => action.do === 'machine.start' || action.do === 'machine.resume');
  const lines: Line[] = [];
  for (const { action, cause } of nodes) {
    if (starts && followsStart(action)) continue;
    const todo = harmless(wordsOf(action).todo);
    const why = action.do === 'machine.adjust' ? `${cause} (live)` : cause;
    const last = lines.at(-1);
    if (last?.cause === why) last.todo.push(todo);
    else lines.push({ todo: [todo], cause: why });
  }
  return lines;
}

function signOf(nodes: readonly PlanNode[]): Sign {
  const kinds = nodes.map(({ action }) => action.do.slice(action.do.indexOf('.') + 1));
  const makes = kinds.includes('create') || kinds.includes('ensure');
  const removes = kinds.includes('destroy') || kinds.includes('remove') || kinds.includes('leave');
  if (makes === removes) return '~';
  return makes ? '+' : '-';
}

/** `3 to create, 1 to restart, 2 steps to run, 1 network to set up`; `nothing to do` for an empty plan. */
export function planCounts(plan: Plan): string {
  const amounts = new Map<string, number>();
  const add = (what: string, amount = 1): void => {
    amounts.set(what, (amounts.get(what) ?? 0) + amount);
  };
  for (const nodes of groupByRow(plan.nodes).values()) {
    const change = machineChange(new Set(nodes.map(({ action }) => action.do)));
    if (change !== undefined) add(change);
    for (const { action } of nodes) if (action.do !== 'box.ensure') add(action.do);
    if (nodes.some(({ action }) => action.do === 'box.ensure')) add('box.ensure'); // one box, for VMs and containers
  }
  const number = (what: string): number => amounts.get(what) ?? 0;
  const some = (amount: number, text: string): string[] => (amount === 0 ? [] : [text]);
  const machines = ['recreate', 'create', 'restart', 'start', 'resume', 'adjust', 'stop', 'destroy', 'check'].flatMap(
    (what) => some(number(what), `${number(what)} to ${what}`),
  );
  const counted = (what: Action['do'], one: string, rest: string): string[] =>
    some(number(what), `${count(number(what), one, one === 'box' ? 'boxes' : `${one}s`)} to ${rest}`);
  const parts = [
    ...machines,
    ...counted('machine.provision', 'step', 'run'),
    ...some(number('machine.cached'), `${count(number('machine.cached'), 'step')} cached`),
    ...counted('network.ensure', 'network', 'set up'),
    ...counted('network.remove', 'network', 'remove'),
    ...counted('volume.ensure', 'volume', 'set up'),
    ...some(
      number('volume.leave') + number('volume.keep'),
      `${count(number('volume.leave') + number('volume.keep'), 'volume')} to keep`,
    ),
    ...counted('volume.remove', 'volume', 'remove'),
    ...counted('snapshot.save', 'snapshot', 'save'),
    ...counted('snapshot.restore', 'snapshot', 'restore'),
    ...counted('snapshot.delete', 'snapshot', 'delete'),
    ...counted('box.ensure', 'box', 'prepare'),
    ...counted('image.ensure', 'image', 'get'),
  ];
  // Only when nothing else is said: it comes with every first network and goes with the last.
  const sandbox = number('sandbox.ensure') > 0 ? 'the sandbox to set up' : 'the sandbox to remove';
  return parts.join(', ') || (plan.nodes.length === 0 ? 'nothing to do' : sandbox);
}

function machineChange(actions: ReadonlySet<Action['do']>): string | undefined {
  if (actions.has('machine.create')) return actions.has('machine.destroy') ? 'recreate' : 'create';
  if (actions.has('machine.destroy')) return 'destroy';
  if (actions.has('machine.start')) return actions.has('machine.stop') ? 'restart' : 'start';
  if (actions.has('machine.resume')) return 'resume';
  if (actions.has('machine.stop')) return 'stop';
  if (actions.has('machine.adjust')) return 'adjust';
  const waits = (['machine.wait', 'machine.healthy', 'machine.completed'] as const).some((wait) => actions.has(wait));
  return waits ? 'check' : undefined;
}
