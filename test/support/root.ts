import { type TestContext, test } from 'vitest';

export const isRoot = process.geteuid?.() === 0;

/** A test of what an ordinary user may not do. */
export const rootTest = (why: string) => (name: string, work: (context: TestContext) => Promise<void>) =>
  test(name, (context) => (isRoot ? work(context) : context.skip(`needs root: ${why}`)));
