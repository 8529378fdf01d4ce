import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { limitProcess } from '../../src/oci/limits.ts';
import { places } from '../../src/oci/paths.ts';
import { applyLabels } from '../../src/oci/proc.ts';
import { waitExit } from '../../src/sys/children.ts';
import { CLONE, MS } from '../../src/sys/flags.ts';
import { fork } from '../../src/sys/fork.ts';
import { writeProc } from '../../src/sys/procfs.ts';
import { rootTest } from '../support/root.ts';

/* S9: what is written to /proc reaches a proc file system, or nothing. */

const mounts = rootTest('a user may not mount');

const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'tsv-procfs-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
};

const sleeper = (): ChildProcess & { pid: number } => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  return Object.assign(child, { pid: child.pid ?? 0 });
};

describe('S9 a file of /proc', () => {
  test('S9 is written', () => {
    const { pid } = sleeper();
    writeProc(`${pid}/oom_score_adj`, '654');
    expect(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')).toBe('654\n');
  });

  mounts('S9 is not, when another file was mounted over it', async () => {
    const { pid } = sleeper();
    const fake = join(folder(), 'fake');
    writeFileSync(fake, 'fake');
    const target = `/proc/${pid}/oom_score_adj`;
    execFileSync('mount', ['--bind', fake, target]);
    try {
      expect(readFileSync(target, 'utf8')).toBe('fake');
      expect(() => limitProcess(pid, { args: ['x'], cwd: '/', oomScoreAdj: 321 })).toThrow(
        'process.oomScoreAdj: 321: EXDEV',
      );
      expect(() => writeProc(`${pid}/oom_score_adj`, '321')).toThrow('EXDEV');
    } finally {
      execFileSync('umount', [target]);
    }
    expect(readFileSync(fake, 'utf8')).toBe('fake');
    expect(readFileSync(target, 'utf8')).not.toBe('321\n');
  });

  test('S9 is not, outside or behind a link of a process', () => {
    const file = join(folder(), 'file');
    writeFileSync(file, 'mine');
    const fd = openSync(file, 'r+');
    onTestFinished(() => closeSync(fd));
    for (const path of [`..${file}`, `self/root${file}`, `self/fd/${fd}`]) {
      expect(() => writeProc(path, 'evil'), path).toThrow(/ELOOP|EXDEV/);
      expect(readFileSync(file, 'utf8'), path).toBe('mine');
    }
  });

  mounts('S9 labels go to the real one, where a container has a false one', async () => {
    const fake = join(folder(), 'proc');
    const files = ['self/attr/exec', 'self/attr/apparmor/exec'].map((name) => join(fake, name));
    for (const file of files) {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, 'fake');
    }
    for (const label of [{ selinuxLabel: 'evil_t' }, { apparmorProfile: 'evil' }]) {
      const child = fork({
        fds: { ...places },
        steps: [
          { call: 'unshare', args: [CLONE.NEWNS] },
          { call: 'mount', args: ['none', '/', '', MS.REC | MS.PRIVATE, 0] },
          { call: 'mount', args: [fake, '/proc', '', MS.BIND, 0] },
          { call: 'chdir', args: ['/'] },
          ...applyLabels({ args: ['x'], cwd: '/', ...label }),
          { call: 'exit_group', args: [0] },
        ],
      });
      const gone = waitExit(child.pid);
      // No security module of this host knows such a label.
      await expect(child.executed).rejects.toThrow(/attr|write|openat2/);
      await gone;
    }
    for (const file of files) expect(readFileSync(file, 'utf8')).toBe('fake');
  });
});
