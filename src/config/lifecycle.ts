import type { Healthcheck, Machine, Restart } from '../model/project.ts';
import type { Report } from './diagnostic.ts';
import { booleanOf, commandOf, durationOf, entryOf, fieldOf, numberOf, textOf } from './read.ts';
import type { Node } from './tree.ts';
import schema from './tsfile.schema.json' with { type: 'json' };
import { parseDuration } from './units.ts';

const builtInCheck = schema.$defs.healthcheck.properties;
const builtInHttp = schema.$defs.httpCheck.properties;

export function readHealthcheck(node: Node | undefined, report: Report): Healthcheck | undefined {
  if (node === undefined) return undefined;
  const duration = (name: 'every' | 'timeout' | 'start_period') =>
    durationOf(fieldOf(node, name), report, { orZero: name === 'start_period' }) ??
    parseDuration(builtInCheck[name].default) ??
    0;
  return {
    ...readQuestion(node),
    everyMs: duration('every'),
    timeoutMs: duration('timeout'),
    retries: numberOf(fieldOf(node, 'retries'))?.value ?? builtInCheck.retries.default,
    startPeriodMs: duration('start_period'),
  };
}

/** Just one of the three, as the schema has it. */
function readQuestion(node: Node): Pick<Healthcheck, 'exec' | 'http' | 'tcp'> {
  const tcp = numberOf(fieldOf(node, 'tcp'))?.value;
  if (tcp !== undefined) return { tcp };
  const http = fieldOf(node, 'http');
  const port = numberOf(fieldOf(http, 'port'))?.value;
  if (port !== undefined)
    return { http: { port, path: textOf(fieldOf(http, 'path'))?.value ?? builtInHttp.path.default } };
  return { exec: commandOf(fieldOf(node, 'exec')) ?? [] };
}

/** `no` is no policy; YAML 1.1's readers make `false` of it, so that is taken as well. */
function readRestart(node: Node | undefined, report: Report): Restart | undefined {
  if (node?.kind === 'scalar' && node.value === true)
    report(node.span, '`restart` cannot be true', 'one of: no, on-failure, on-failure:N, always, unless-stopped');
  const [when, most] = textOf(node)?.value.split(':') ?? [];
  switch (when) {
    case 'always':
    case 'unless-stopped':
      return { when };
    case 'on-failure':
      return { when, ...(most === undefined ? {} : { most: Number(most) }) };
    default:
      return undefined;
  }
}

/** Whether a machine comes back by itself, or is done when it has ended; and what then makes no sense. */
export function readLifecycle(
  node: Node,
  /** A container that runs nothing but the init. `undefined`: not a container. */
  container: { readonly idle: boolean } | undefined,
  report: Report,
): Pick<Machine, 'restart' | 'oneshot'> {
  const restart = readRestart(fieldOf(node, 'restart'), report);
  const oneshot = entryOf(node, 'oneshot');
  const ends = oneshot !== undefined && booleanOf(oneshot.value) === true;
  const policy = fieldOf(node, 'restart');
  if (ends && policy !== undefined && restart !== undefined && restart.when !== 'on-failure') {
    report(
      policy.span,
      `\`${restart.when}\` would start a one-shot machine again and again`,
      '`on-failure` is possible',
    );
  }
  const check = entryOf(node, 'healthcheck');
  if (ends && check !== undefined)
    report(check.keySpan, 'a one-shot machine is done when it has ended: nobody asks for its health', 'remove it');
  const steps = entryOf(node, 'provision');
  if (ends && container !== undefined && steps !== undefined)
    report(steps.keySpan, 'a one-shot container ends by itself, provisioned or not', 'put all of it into `command`');
  if (ends && container?.idle === true)
    report(oneshot.keySpan, 'without a `command` this container never ends', 'give it a `command`');
  return { ...(restart === undefined ? {} : { restart }), ...(ends ? { oneshot: true } : {}) };
}
