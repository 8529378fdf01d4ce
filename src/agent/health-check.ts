import { TsvError } from '../model/errors.ts';
import type { ContainerDefaults } from '../model/image.ts';
import { isolationOf, type Machine } from '../model/project.ts';
import type { ExecRequest } from '../model/provider.ts';
import { quoteWords } from '../ssh/quote.ts';
import type { Answer } from './health-question.ts';

/** What a machine is asked: by a command in it, by a request to one of its ports, or by nothing but a connection there. */
export type Question =
  | { readonly by: 'exec'; readonly request: ExecRequest }
  | { readonly by: 'http'; readonly port: number; readonly path: string }
  | { readonly by: 'tcp'; readonly port: number };

/** A health check, whoever has written it. */
export interface Check {
  readonly question: Question;
  readonly everyMs: number;
  /** Between two questions while somebody waits for the answer; absent: as always. */
  readonly waitedEveryMs?: number;
  readonly timeoutMs: number;
  readonly retries: number;
  readonly startPeriodMs: number;
}

/** Docker's, where an image leaves it open (reference of Dockerfile, HEALTHCHECK). */
const dockerCheck = { everyMs: 30_000, timeoutMs: 30_000, retries: 3, startPeriodMs: 0 };
/** An image's check that somebody waits for is asked more often than Docker does. */
const waitedEveryMs = 1000;

/** The Tsfile's check, else the image's; undefined where there is none, and for a machine that is meant to end. */
export function checkOf(machine: Machine, image: ContainerDefaults | undefined): Check | undefined {
  if (machine.oneshot === true) return undefined;
  if (machine.healthcheck === undefined) return imageCheck(machine, image);
  const { exec = [], http, tcp, ...times } = machine.healthcheck;
  if (http !== undefined) return { ...times, question: { by: 'http', ...http } };
  if (tcp !== undefined) return { ...times, question: { by: 'tcp', port: tcp } };
  return { ...times, question: { by: 'exec', request: { argv: exec } } };
}

function imageCheck(machine: Machine, image: ContainerDefaults | undefined): Check | undefined {
  const { test = [], ...given } = { ...dockerCheck, ...image?.healthcheck };
  const [kind, ...words] = test;
  const argv = kind === 'CMD' ? words : kind === 'CMD-SHELL' ? ['/bin/sh', '-c', words.join(' ')] : [];
  if (argv.length === 0) return undefined;
  const isolation = isolationOf(machine);
  const user =
    isolation.user === undefined
      ? image?.user || 'root'
      : [isolation.user.user, isolation.user.group].filter((id) => id !== undefined).join(':');
  const cwd = isolation.workdir ?? image?.workdir ?? '/';
  return { ...given, waitedEveryMs, question: { by: 'exec', request: { argv, user, cwd } } };
}

/** What is asked, in words. */
export function questionWords(question: Question): string {
  switch (question.by) {
    case 'exec':
      return `'${question.request.argv.join(' ')}'`;
    case 'http':
      return `GET ${question.path} at port ${question.port}`;
    case 'tcp':
      return `a connection to port ${question.port}`;
  }
}

export const noCheck = (name: string): TsvError =>
  new TsvError('TSV_UNHEALTHY', `${name} cannot become healthy: neither the Tsfile nor its image has a check`, {
    hint: `give ${name} a healthcheck, or depend on it with 'started'`,
  });

/** `printed`: the end of what the machine itself has printed. */
export function unhealthy(
  name: string,
  { question }: Check,
  failures: number,
  answer: Extract<Answer, { healthy: false }>,
  printed: readonly string[],
): TsvError {
  const times = failures === 1 ? 'once' : `${failures} times`;
  return new TsvError('TSV_UNHEALTHY', `${name} is not healthy: ${questionWords(question)} failed ${times}`, {
    details: [
      answer.why,
      ...answer.output,
      ...(printed.length === 0 ? [] : [`the last lines of ${name}:`, ...printed.map((line) => `  ${line}`)]),
    ],
    hint: question.by === 'exec' ? `tsv exec ${name} -- ${quoteWords(question.request.argv)}` : `tsv logs ${name}`,
  });
}
