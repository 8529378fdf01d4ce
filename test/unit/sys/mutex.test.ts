import { expect, test } from 'vitest';
import { Mutex } from '../../../src/sys/mutex.ts';

const gate = () => {
  let open: () => void = () => {};
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, opened };
};

test('work runs one after the other, in the order of the calls', async () => {
  const mutex = new Mutex();
  const log: string[] = [];
  const gates = [gate(), gate(), gate()];
  const done = gates.map(({ opened }, i) =>
    mutex.run(async () => {
      log.push(`${i} begins`);
      await opened;
      log.push(`${i} ends`);
      return i;
    }),
  );
  for (const { open } of [...gates].reverse()) open();
  expect(await Promise.all(done)).toEqual([0, 1, 2]);
  expect(log).toEqual(['0 begins', '0 ends', '1 begins', '1 ends', '2 begins', '2 ends']);
});

test('work does not begin before the work before it has ended', async () => {
  const mutex = new Mutex();
  const first = gate();
  let begun = false;
  const before = mutex.run(() => first.opened);
  const after = mutex.run(async () => {
    begun = true;
  });
  await new Promise(setImmediate);
  expect(begun).toBe(false);
  first.open();
  await Promise.all([before, after]);
  expect(begun).toBe(true);
});

test('work that fails tells its caller, and the next begins all the same', async () => {
  const mutex = new Mutex();
  const failing = mutex.run(() => Promise.reject(new Error('no')));
  const throwing = mutex.run(() => {
    throw new Error('not even a promise');
  });
  const next = mutex.run(async () => 'next');
  await expect(failing).rejects.toThrow('no');
  await expect(throwing).rejects.toThrow('not even');
  expect(await next).toBe('next');
});
