import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Guest, guests } from './guests.ts';
import type { CheckJob, CheckMessage, CheckReport, Failure, StepId, StepResult } from './protocol.ts';

export const kvmDevice = '/dev/kvm';

/** For each step. A guest of the check needs microseconds. */
export const stepLimitMs = 2000;
/** Until its process says its first word: that is Node's time, on a host that may be busy. */
const startLimitMs = 10_000;
/** How long a process that was killed may take to be gone. */
const endLimitMs = 1000;
const stderrMax = 4096;

export interface RunOptions {
  /** The built program: `dist/parts/kvm-check.js`. */
  readonly program: string;
  readonly device?: string;
  readonly guests?: readonly Guest[];
  readonly limitMs?: number;
}

/**
 * Checks KVM in a process of its own, which is ended (SIGKILL, which KVM_RUN obeys) when a step takes longer than `limitMs`. What
 * goes wrong is in the report, with its step; never rejects.
 */
export function runCheck(options: RunOptions): Promise<CheckReport> {
  const limitMs = options.limitMs ?? stepLimitMs;
  const job: CheckJob = { device: options.device ?? kvmDevice, guests: options.guests ?? guests };
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [options.program, JSON.stringify(job)], {
      cwd: '/',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', TSV_ID: 'tsv-kvm-check' },
    });
    const steps: StepResult[] = [];
    let current: StepId = 'start';
    let began = performance.now();
    let stderr = '';
    let heard = 0;
    let isOver = false;
    const fail = (failure: Failure): void => {
      if (isOver) return;
      isOver = true;
      steps.push({ step: current, ms: performance.now() - began, detail: '', calls: [], failure });
    };
    const settle = (): void => {
      clearTimeout(timer);
      const { step, failure } = steps.at(-1) ?? {};
      resolve({ steps, ...(step === undefined || failure === undefined ? {} : { failure: { step, failure } }) });
    };
    const limit = (ms: number): NodeJS.Timeout =>
      setTimeout(() => {
        const soFar = heard;
        // What came while this process itself was stopped or busy is read first.
        setImmediate(() => {
          if (heard !== soFar) return;
          fail({ kind: 'hang', limitMs: ms });
          child.kill('SIGKILL');
          timer = setTimeout(settle, endLimitMs);
        });
      }, ms);
    let timer = limit(startLimitMs);
    createInterface({ input: child.stdout }).on('line', (line) => {
      heard++;
      if (isOver) return; // it comes too late
      const message = JSON.parse(line) as CheckMessage;
      clearTimeout(timer);
      timer = limit(limitMs);
      if ('begin' in message) {
        current = message.begin;
        began = performance.now();
      } else if ('end' in message) {
        steps.push(message.end);
        isOver = message.end.failure !== undefined;
      } else isOver = true;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-stderrMax);
    });
    child.once('error', (error) => {
      fail({ kind: 'died', text: error.message });
      settle();
    });
    child.once('close', (code, signal) => {
      fail({ kind: 'died', text: lastWords(stderr) ?? signal ?? `exit code ${code}` });
      settle();
    });
  });
}

/** The message of an uncaught error, else the last line. */
function lastWords(stderr: string): string | undefined {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  return lines.find((line) => /^\w*Error\b.*: /.test(line)) ?? lines.at(-1);
}
