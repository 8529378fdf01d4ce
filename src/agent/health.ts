import { setTimeout as pause } from 'node:timers/promises';
import { TsvError } from '../model/errors.ts';
import type { Machine } from '../model/project.ts';
import type { ExecResult, Transport } from '../model/provider.ts';

/**
 * Runs a machine's health check until it succeeds: `retries` failures in a row after the start period are the end.
 * @throws TSV_UNHEALTHY with the check and its last output
 */
export async function waitHealthy(machine: Machine, transport: Transport, signal: AbortSignal): Promise<void> {
  const check = machine.healthcheck;
  if (check === undefined) return;
  const started = performance.now();
  let failures = 0;
  for (;;) {
    signal.throwIfAborted();
    const { result, output } = await attempt(transport, check.exec, check.timeoutMs);
    if (result?.code === 0) return;
    if (performance.now() - started > check.startPeriodMs) failures++;
    if (failures >= check.retries) {
      throw new TsvError(
        'TSV_UNHEALTHY',
        `${machine.name} is not healthy: '${check.exec.join(' ')}' failed ${failures} times`,
        {
          details: [
            result === undefined ? `no answer within ${check.timeoutMs} ms` : `exit code ${result.code}`,
            ...output.trimEnd().split('\n').slice(-10),
          ],
          hint: `tsv exec ${machine.name} -- ${check.exec.join(' ')}`,
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
  argv: readonly string[],
  timeoutMs: number,
): Promise<{ result: ExecResult | undefined; output: string }> {
  let output = '';
  const session = await transport.exec({ argv });
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
