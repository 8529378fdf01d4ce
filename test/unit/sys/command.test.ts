import { closeSync, openSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { mustRun, run } from '../../../src/sys/command.ts';
import { errnoName } from '../../../src/sys/errno.ts';
import { signalName, signalNumber } from '../../../src/sys/signals.ts';

describe('a command', () => {
  test('gives its exit code and both outputs', async () => {
    expect(await run(['sh', '-c', 'cat; echo no >&2; exit 3'], { input: 'yes' })).toEqual({
      code: 3,
      signal: null,
      stdout: 'yes',
      stderr: 'no\n',
    });
    expect(await run(['sh', '-c', 'kill -9 $$'])).toMatchObject({ code: null, signal: 'SIGKILL' });
  });

  test('that does not read its input still ends in order', async () => {
    expect((await run(['true'], { input: Buffer.alloc(1 << 20) })).code).toBe(0);
  });

  test('has what it is to hold open', async () => {
    const fd = openSync(import.meta.filename, 'r');
    try {
      const { stdout } = await run(['readlink', '/proc/self/fd/3'], { holds: fd });
      expect(stdout.trim()).toBe(import.meta.filename);
    } finally {
      closeSync(fd);
    }
  });

  test('keeps the end of an output that is too long', async () => {
    const { stdout } = await run(['sh', '-c', 'head -c 2000000 /dev/zero; echo end']);
    expect(stdout.length).toBe(1 << 20);
    expect(stdout.endsWith('end\n')).toBe(true);
  });

  test('that must succeed says which one failed, how, and its last words', async () => {
    const failure = { code: 'TSV_NETWORK', message: 'no cable', hint: 'plug it in' } as const;
    await expect(mustRun(['sh', '-c', 'seq 20 >&2; exit 4'], failure)).rejects.toMatchObject({
      code: 'TSV_NETWORK',
      message: 'no cable',
      hint: 'plug it in',
      details: ['sh -c seq 20 >&2; exit 4: exit code 4', '13', '14', '15', '16', '17', '18', '19', '20'],
    });
    await expect(mustRun(['no-such-program-here'], failure, { env: { PATH: '/usr/bin:/bin' } })).rejects.toMatchObject({
      code: 'TSV_HOST_MISSING',
      message: "no cable: the program 'no-such-program-here' is not installed",
    });
  });
});

test('errors and signals have their names', () => {
  expect([2, 1, 40, 9999].map(errnoName)).toEqual(['ENOENT', 'EPERM', 'ELOOP', 'errno 9999']);
  expect(['TERM', 'SIGTERM', 'KILL', 'term', 'BOGUS', ''].map(signalNumber)).toEqual([15, 15, 9, 0, 0, 0]);
  expect([15, 9, 1].map(signalName)).toEqual(['TERM', 'KILL', 'HUP']);
});
