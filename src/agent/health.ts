import { setTimeout as pause } from 'node:timers/promises';
import { TsvError } from '../model/errors.ts';
import type { ContainerDefaults } from '../model/image.ts';
import { type Healthcheck, isolationOf, type Machine } from '../model/project.ts';
import type { ExecRequest, ExecResult, Transport } from '../model/provider.ts';

/** A health check, and as whom and where it runs; absent: as root, at home. */
export interface Check extends Omit<Healthcheck, 'exec'>, Pick<ExecRequest, 'user' | 'cwd'> {
  readonly exec: readonly string[];
}

/** Docker's, where an image leaves it open (reference of Dockerfile, HEALTHCHECK). */
const dockerCheck = { everyMs: 30_000, timeoutMs: 30_000, retries: 3, startPeriodMs: 0 };
/** A machine that is waited for is asked more often than one that is watched. */
const everyMs = 1000;

/**
 * An image's health check, with as much patience as Docker has: it gives up `retries` intervals after the start period.
 * @throws TSV_UNHEALTHY when the image has none
 */
export function imageCheck(machine: Machine, image: ContainerDefaults | undefined): Check {
  const given = { ...dockerCheck, ...image?.healthcheck };
  const [kind, ...words] = image?.healthcheck?.test ?? [];
  const exec = kind === 'CMD' ? words : kind === 'CMD-SHELL' ? ['/bin/sh', '-c', words.join(' ')] : [];
  if (exec.length === 0) {
    throw new TsvError(
      'TSV_UNHEALTHY',
      `${machine.name} cannot become healthy: neither the Tsfile nor its image has a check`,
      {
        hint: `give ${machine.name} a healthcheck, or depend on it with 'started'`,
      },
    );
  }
  const { user, workdir } = isolationOf(machine);
  const every = Math.min(everyMs, given.everyMs);
  return {
    exec,
    everyMs: every,
    timeoutMs: given.timeoutMs,
    retries: given.retries,
    startPeriodMs: given.startPeriodMs + given.retries * (given.everyMs - every),
    user:
      user === undefined ? image?.user || 'root' : [user.user, user.group].filter((id) => id !== undefined).join(':'),
    cwd: workdir ?? image?.workdir ?? '/',
  };
}

/**
 * Runs a machine's health check until it succeeds: `retries` failures in a row after the start period are the end.
 * @throws TSV_UNHEALTHY with the check and its last output
 */
export async function waitHealthy(
  name: string,
  check: Check,
  transport: Transport,
  signal: AbortSignal,
): Promise<void> {
  const started = performance.now();
  let failures = 0;
  for (;;) {
    signal.throwIfAborted();
    const { result, output } = await attempt(transport, check);
    if (result?.code === 0) return;
    if (performance.now() - started > check.startPeriodMs) failures++;
    if (failures >= check.retries) {
      throw new TsvError(
        'TSV_UNHEALTHY',
        `${name} is not healthy: '${check.exec.join(' ')}' failed ${failures} times`,
        {
          details: [
            result === undefined ? `no answer within ${check.timeoutMs} ms` : `exit code ${result.code}`,
            ...output.trimEnd().split('\n').slice(-10),
          ],
          hint: `tsv exec ${name} -- ${check.exec.join(' ')}`,
        },
      );
    }
    await pause(check.everyMs, undefined, { signal });
  }
}

/** Keeps the last part of what the check prints. */
const outputLimit = 4096;

async function attempt(
  transport: Transport,
  { exec, timeoutMs, user, cwd }: Check,
): Promise<{ result: ExecResult | undefined; output: string }> {
  let output = '';
  const request: ExecRequest = {
    argv: exec,
    ...(user === undefined ? {} : { user }),
    ...(cwd === undefined ? {} : { cwd }),
  };
  const session = await transport.exec(request);
  for (const stream of [session.stdout, session.stderr]) {
    stream.on('data', (data: Buffer) => {
      output = (output + data.toString('utf8')).slice(-outputLimit);
    });
  }
  session.stdin.end();
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => {
      session.signal('KILL');
      resolve(undefined);
    }, timeoutMs);
  });
  const result = await Promise.race([session.exited, timeout]);
  clearTimeout(timer);
  return { result, output };
}
