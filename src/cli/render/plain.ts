import type { TsvEvent } from '../../model/events.ts';
import type { Plan, PlanNode } from '../../model/plan.ts';
import { Outlet } from './outlet.ts';
import type { Progress, ProgressOptions } from './progress.ts';
import { type Style, style, symbolsOf } from './terminal.ts';
import { displayWidth, formatDuration, harmless, padEnd } from './text.ts';
import { withoutName, wordsOf } from './words.ts';

/** Not red: that is for what failed. */
const prefixStyles: readonly Style[] = ['cyan', 'magenta', 'blue', 'yellow', 'green'];

/** A step that goes on counting (`42/136 packages`) says so this often; a new text is shown at once. */
const progressEveryMs = 10_000;

type Tag = { readonly node: PlanNode; shape: string; at: number };

/** For pipes, CI and dumb terminals: a line per event, prefixed with what it is about. The cursor is never moved. */
export function plainProgress({ stream, terminal, now = Date.now }: Omit<ProgressOptions, 'mode'>): Progress {
  const { ellipsis, failed, skipped } = symbolsOf(terminal);
  const styles = new Map<string, Style>();
  const nodes = new Map<number, Tag>();
  const leftOut = new Set<string>();
  let width = 0;

  const prefix = (name: string): string => {
    const clean = harmless(name);
    width = Math.max(width, displayWidth(clean));
    const styleOf = styles.get(clean) ?? prefixStyles[styles.size % prefixStyles.length] ?? 'cyan';
    styles.set(clean, styleOf);
    return style(terminal, padEnd(clean, width), styleOf);
  };
  const outlet = new Outlet(
    stream,
    (machine, text) => `${prefix(machine)}  ${style(terminal, `${ellipsis} ${text}`, 'dim')}`,
  );
  const say = (name: string | undefined, text: string): void =>
    outlet.line(name === undefined ? text : `${prefix(name)}  ${text}`);

  const ended = (event: TsvEvent & { type: 'step.end' }): void => {
    const node = nodes.get(event.id)?.node;
    if (node === undefined) return;
    const { row, todo, did } = wordsOf(node.action);
    if (event.outcome === 'done' && node.action.do === 'machine.cached') {
      say(row, harmless(did));
    } else if (event.outcome === 'done') {
      say(row, `${harmless(did)} ${style(terminal, `in ${formatDuration(event.ms)}`, 'dim')}`);
    } else if (event.outcome === 'failed') {
      const message = withoutName(event.error?.message ?? 'failed', row);
      say(row, style(terminal, `${failed} ${harmless(`${todo}: ${message}`)}`, 'red'));
    } else if (!leftOut.has(row)) {
      leftOut.add(row); // once is enough: all its later steps are left out as well
      say(row, style(terminal, `${skipped} ${harmless(todo)} ${event.outcome}`, 'dim'));
    }
  };

  const progressed = (event: TsvEvent & { type: 'step.progress' }): void => {
    const tag = nodes.get(event.id);
    if (tag === undefined) return;
    const shape = event.text.replace(/\d+/g, '0');
    if (shape === tag.shape && now() - tag.at < progressEveryMs) return;
    tag.shape = shape;
    tag.at = now();
    const { row } = wordsOf(tag.node.action);
    outlet.output(row, `${prefix(row)}  ${style(terminal, harmless(event.text), 'dim')}`);
  };

  const planned = (plan: Plan): void => {
    nodes.clear();
    leftOut.clear();
    for (const node of plan.nodes) {
      nodes.set(node.id, { node, shape: '', at: Number.NEGATIVE_INFINITY });
      prefix(wordsOf(node.action).row); // so that all are as wide from the first line on
    }
  };

  const started = (id: number): void => {
    const node = nodes.get(id)?.node;
    if (node === undefined || node.action.do === 'machine.cached') return;
    const { row, todo } = wordsOf(node.action);
    say(row, `${harmless(todo)} ${ellipsis}`);
  };

  const printed = ({ machine, text }: TsvEvent & { type: 'output' }): void =>
    outlet.output(machine, `${prefix(machine)}  ${style(terminal, '|', 'dim')} ${harmless(text, terminal.colour)}`);

  const show = (event: TsvEvent): void => {
    switch (event.type) {
      case 'plan':
        planned(event.plan);
        break;
      case 'step.start':
        started(event.id);
        break;
      case 'step.progress':
        progressed(event);
        break;
      case 'step.end':
        ended(event);
        break;
      case 'output':
        printed(event);
        break;
      case 'notice':
        say(event.machine, style(terminal, harmless(event.text), 'dim'));
        break;
      case 'warning':
        say(event.machine, warningText(event.text, terminal));
        break;
      case 'waiting':
        say(undefined, waitingText(event, now()));
    }
  };
  return { emit: show, done: () => outlet.idle() };
}

/** Nothing but warnings: for scripts that look at the exit code. */
export function quietProgress({ stream, terminal }: Pick<ProgressOptions, 'stream' | 'terminal'>): Progress {
  const outlet = new Outlet(stream, (_, text) => text);
  return {
    emit(event) {
      if (event.type !== 'warning') return;
      const about = event.machine === undefined ? '' : `${harmless(event.machine)}: `;
      outlet.line(`${about}${warningText(event.text, terminal)}`);
    },
    done: () => outlet.idle(),
  };
}

export const warningText = (text: string, terminal: ProgressOptions['terminal']): string =>
  `${style(terminal, 'warning:', 'yellow')} ${harmless(text)}`;

/** `waiting for tsv up (process 4711, running for 12s)` */
export function waitingText(event: TsvEvent & { type: 'waiting' }, now: number): string {
  const since = Date.parse(event.since);
  const running = Number.isNaN(since) ? '' : `, running for ${formatDuration(now - since)}`;
  return `waiting for tsv ${harmless(event.forCommand)} (process ${event.pid}${running})`;
}
