import { spawn } from 'node:child_process';
import { expect, onTestFinished, test } from 'vitest';
import { findLeftovers } from '../../../providers/namespace/leftovers.ts';

test('nothing is left over from a container that is gone, or that may not be looked at', () => {
  const gone = 2 ** 22 + 1; // above the largest pid (proc(5), pid_max)
  expect(findLeftovers(gone)).toEqual([]);
});

test('processes of our own pid namespace never are leftovers, whatever pid is taken for a container', () => {
  const child = spawn('sleep', ['1000']);
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  expect(findLeftovers(1)).toEqual([]);
  expect(findLeftovers(child.pid ?? 0)).toEqual([]);
});
