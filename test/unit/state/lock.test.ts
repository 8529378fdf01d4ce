import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lockedError, lockedText, openLockFile, readHolder, writeHolder } from '../../../src/state/lock.ts';
import { projectPaths } from '../../../src/state/paths.ts';
import { processRef } from '../../../src/sys/process.ts';
import { projectFolder } from './fixtures.ts';

let folder: ReturnType<typeof projectFolder>;
let dir: string;
beforeEach(() => {
  folder = projectFolder();
  dir = folder.dir;
});
afterEach(() => folder.remove());

const code = (expected: string) => expect.objectContaining({ code: expected });

describe('the lock holder', () => {
  const self = () => {
    const own = processRef(process.pid);
    if (own === undefined) throw new Error('no own process');
    return { pid: own.pid, startTime: own.startTime, command: 'tsv up', since: '2026-11-22T12:01:05.000Z' };
  };

  test('is found while it lives', () => {
    expect(readHolder(dir)).toBeUndefined();
    writeHolder(dir, self());
    expect(readHolder(dir)).toEqual(self());
    expect(readdirSync(projectPaths(dir).stateDir)).toEqual(['lock.holder']);
  });

  test('that was killed is nobody, even when its pid is in use again', async () => {
    const child = spawn('sleep', ['60']);
    const startTime = processRef(child.pid ?? 0)?.startTime ?? '';
    writeHolder(dir, { ...self(), pid: child.pid ?? 0, startTime });
    expect(readHolder(dir)?.pid).toBe(child.pid);
    await new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill('SIGKILL');
    });
    expect(readHolder(dir)).toBeUndefined();
    writeHolder(dir, { ...self(), startTime: '1' });
    expect(readHolder(dir)).toBeUndefined();
  });

  test('in a file that somebody edited is nobody', () => {
    writeHolder(dir, self());
    for (const text of ['', '{', '{"pid": "1"}']) {
      writeFileSync(projectPaths(dir).lockHolder, text);
      expect(readHolder(dir)).toBeUndefined();
    }
  });

  test('is named with command and time, and with the date when it is not of today', () => {
    const holder = {
      pid: 123,
      startTime: '1',
      command: 'tsv up',
      since: new Date(2026, 10, 22, 12, 1, 5).toISOString(),
    };
    expect(lockedText(holder, new Date(2026, 10, 22, 23, 0))).toBe('locked by pid 123 (tsv up), since 12:01:05');
    expect(lockedText(holder, new Date(2026, 10, 23, 0, 1))).toBe(
      'locked by pid 123 (tsv up), since 2026-11-22 12:01:05',
    );
    expect(lockedError(dir, holder)).toMatchObject({
      code: 'TSV_LOCKED',
      message: expect.stringContaining('this project is locked by pid 123 (tsv up), since'),
    });
  });

  test('locks a file that keeps its inode and is no symlink', () => {
    openLockFile(dir);
    const { ino } = statSync(projectPaths(dir).lock);
    openLockFile(dir);
    expect(statSync(projectPaths(dir).lock).ino).toBe(ino);
    expect(readFileSync(projectPaths(dir).lock, 'utf8')).toBe('');
    execFileSync('ln', ['-sf', '/etc/passwd', projectPaths(dir).lock]);
    expect(() => openLockFile(dir)).toThrow(code('TSV_STATE_UNSAFE'));
  });
});
