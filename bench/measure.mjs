import { spawn } from 'node:child_process';
import { performance } from 'node:perf_hooks';

/**
 * Runs a program to its end.
 * @param {readonly string[]} argv
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, input?: import('node:stream').Readable }} [options]
 * @returns {Promise<{ ms: number, stdout: string }>} from before it is started until it has ended. Rejects when it does
 * not end with 0, with its last words.
 */
export function run(argv, { cwd, env = process.env, input } = {}) {
  const [file, ...args] = argv;
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(file, args, { cwd, env, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    let ms = 0;
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    if (input !== undefined) input.pipe(child.stdin.on('error', () => {})); // its exit code says why it stopped reading
    child.on('error', reject);
    child.on('exit', () => {
      ms = performance.now() - start;
    });
    child.on('close', (code, signal) => {
      if (code === 0) resolve({ ms, stdout });
      else
        reject(
          new Error(
            `${argv.join(' ')}: ${signal ?? `exit code ${code}`}\n${(stderr || stdout).trim().split('\n').slice(-8).join('\n')}`,
          ),
        );
    });
  });
}

/** Like {@link run}; only the milliseconds. */
export const time = async (argv, options) => (await run(argv, options)).ms;

/**
 * Calls all subjects in turn, round after round (A B A B), so that whatever else the machine does meets each of them.
 * @param {readonly (() => Promise<Record<string, number>>)[]} subjects each resolves with what it measured, in ms
 * @returns {Promise<Record<string, number[]>>} the rounds' values, without those of the warm-up
 */
export async function interleave(subjects, { rounds, warmups }) {
  const samples = {};
  for (let round = -warmups; round < rounds; round++) {
    for (const subject of subjects) {
      for (const [what, ms] of Object.entries(await subject())) {
        samples[what] ??= [];
        if (round >= 0) samples[what].push(ms);
      }
    }
  }
  return samples;
}

/** @param {readonly number[]} values at least one */
export function summary(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  return { median, min: sorted[0], max: sorted.at(-1), count: sorted.length };
}
