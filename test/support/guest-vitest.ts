import { inspect } from 'node:util';
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  addCustomEqualityTesters,
  chai,
  customMatchers,
  getState,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from '@vitest/expect';
import { startTests, type Task, type VitestRunner } from '@vitest/runner';

/*
 * What test files import as `vitest`, and what runs them, in a bundle without Vite: for a guest that has nothing but Node
 * (guest-tests.ts). The runner and the assertions are Vitest's own.
 */

export {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  it,
  onTestFailed,
  onTestFinished,
  type TestContext,
  test,
} from '@vitest/runner';

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);

const assertion = (value: unknown, message?: string) => chai.expect(value, message);
export const expect = Object.assign(
  assertion,
  chai.expect,
  (globalThis as unknown as Record<symbol, object>)[ASYMMETRIC_MATCHERS_OBJECT],
  { addEqualityTesters: addCustomEqualityTesters, getState: () => getState(assertion as never) },
);
(chai.expect as unknown as { extend(on: unknown, matchers: unknown): void }).extend(expect, customMatchers);
setState({ assertionCalls: 0, isExpectingAssertions: false }, expect as never);

export interface Outcome {
  /** `describe > test` */
  readonly name: string;
  readonly state: 'pass' | 'fail' | 'skip';
  readonly ms: number;
  /** Why it was skipped or failed. */
  readonly note?: string;
}

/** Runs the files of the bundle; each test is a line of JSON on stdout. @returns whether none failed */
export async function runFiles(
  files: Readonly<Record<string, () => Promise<unknown>>>,
  pattern: RegExp | undefined,
): Promise<boolean> {
  const runner: VitestRunner = {
    config: {
      root: process.cwd(),
      setupFiles: [],
      name: undefined,
      passWithNoTests: false,
      testNamePattern: pattern,
      allowOnly: true,
      sequence: { seed: 1, hooks: 'stack', setupFiles: 'list' },
      chaiConfig: undefined,
      maxConcurrency: 1,
      testTimeout: 120_000,
      hookTimeout: 120_000,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    },
    importFile: (path) => files[path]?.(),
    // All that there is when the time is over.
    onBeforeRunTask: ({ fullTestName }) => void process.stderr.write(`${fullTestName}\n`),
  };
  // What waits for a process alone does not keep Node's event loop going; Vitest's own process has other things to do.
  const awake = setInterval(() => {}, 1000);
  const done = await startTests(Object.keys(files), runner).finally(() => clearInterval(awake));
  const outcomes = done.flatMap(outcomesOf);
  process.stdout.write(outcomes.map((outcome) => `${JSON.stringify(outcome)}\n`).join(''));
  return outcomes.length > 0 && outcomes.every(({ state }) => state !== 'fail');
}

/** Of all tests that the pattern matches, and of the suites whose hooks failed. */
function outcomesOf(task: Task): Outcome[] {
  const errors = errorsOf(task);
  if (task.type === 'suite') {
    const own: Outcome[] = errors === '' ? [] : [{ name: `${task.name}: hooks`, state: 'fail', ms: 0, note: errors }];
    return [...own, ...task.tasks.flatMap(outcomesOf)];
  }
  // Not among the declared ones, and the only place of the reason.
  const { note } = (task.result ?? {}) as { note?: string };
  const state = task.result?.state;
  if (state !== 'pass' && state !== 'fail' && note === undefined) return [];
  return [
    {
      name: task.fullTestName,
      state: state === 'pass' || state === 'fail' ? state : 'skip',
      ms: Math.round(task.result?.duration ?? 0),
      ...(note === undefined && errors === '' ? {} : { note: note ?? errors }),
    },
  ];
}

const errorsOf = ({ result }: Task): string =>
  (result?.errors ?? [])
    .map(({ stack, message, actual, expected }) => {
      const difference = expected === undefined ? [] : [`expected ${inspect(expected)}`, `actual ${inspect(actual)}`];
      return [stack ?? message, ...difference].join('\n');
    })
    .join('\n');
