import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { limitProcess } from '../../../src/oci/limits.ts';
import type { OciProcess } from '../../../src/oci/spec.ts';

/* On a process of our own, downwards: that needs no rights. */
let pid: number;
let end: () => void;
beforeEach(() => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  pid = child.pid ?? 0;
  end = () => child.kill('SIGKILL');
});
afterEach(() => end());

const limit = (change: Partial<OciProcess>) => limitProcess(pid, { args: ['x'], cwd: '/', ...change });
const limitsLine = (name: string): string[] =>
  (
    readFileSync(`/proc/${pid}/limits`, 'utf8')
      .split('\n')
      .find((line) => line.startsWith(name)) ?? ''
  )
    .slice(26)
    .trim()
    .split(/\s+/)
    .slice(0, 2);

describe('limits of a process', () => {
  test('are set, soft and hard', () => {
    limit({
      rlimits: [
        { type: 'RLIMIT_NOFILE', soft: 17, hard: 19 },
        { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
      ],
    });
    expect(limitsLine('Max open files')).toEqual(['17', '19']);
    expect(limitsLine('Max core file size')).toEqual(['0', '0']);
  });

  test('RLIM_INFINITY, which arrives rounded to 2^64, is no limit', () => {
    const before = limitsLine('Max cpu time');
    expect(before).toEqual(['unlimited', 'unlimited']);
    limit({ rlimits: [{ type: 'RLIMIT_CPU', soft: 1000, hard: 2 ** 64 }] });
    expect(limitsLine('Max cpu time')).toEqual(['1000', 'unlimited']);
  });

  test('that cannot be set say which one they are', () => {
    expect(() =>
      limit({
        rlimits: [
          { type: 'RLIMIT_CORE', soft: 0, hard: 0 },
          { type: 'RLIMIT_NOFILE', soft: 20, hard: 10 },
        ],
      }),
    ).toThrow(
      expect.objectContaining({
        code: 'TSV_CONTAINER_START',
        message: 'process.rlimits[1]: RLIMIT_NOFILE 20:10: EINVAL',
      }),
    );
  });

  test('an unknown one is refused, not taken for another', () => {
    expect(() => limit({ rlimits: [{ type: 'RLIMIT_ODD', soft: 1, hard: 1 }] })).toThrow('RLIMIT_ODD');
  });
});

describe('what else a process is given', () => {
  test('its OOM score; the one that it has is left alone', () => {
    limit({ oomScoreAdj: 500 });
    expect(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')).toBe('500\n');
    limit({ oomScoreAdj: 500 });
    expect(() => limit({ oomScoreAdj: 5000 })).toThrow(expect.objectContaining({ code: 'TSV_CONTAINER_START' }));
  });

  test('its scheduling: policy and nice value', () => {
    limit({ scheduler: { policy: 'SCHED_BATCH', nice: 5 } });
    const fields = (readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1] ?? '').split(' ');
    expect([fields[16], fields[38]]).toEqual(['5', '3']); // proc(5): (19) nice, (41) policy
    expect(() => limit({ scheduler: { policy: 'SCHED_DEADLINE', runtime: 5, deadline: 4, period: 3 } })).toThrow(
      expect.objectContaining({ message: expect.stringContaining('process.scheduler: SCHED_DEADLINE') }),
    );
  });

  test('its class of I/O; an unknown one is refused', () => {
    expect(() => limit({ ioPriority: { class: 'IOPRIO_CLASS_BE', priority: 7 } })).not.toThrow();
    expect(() => limit({ ioPriority: { class: 'IOPRIO_CLASS_ODD', priority: 0 } })).toThrow('IOPRIO_CLASS_ODD');
  });

  test('of a process that is gone nothing is set in silence', async () => {
    const gone = 2 ** 22 + 1; // above the largest pid (proc(5), pid_max)
    for (const change of [
      { oomScoreAdj: 1 },
      { rlimits: [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }] },
      { scheduler: { policy: 'SCHED_BATCH' } },
    ])
      expect(() => limitProcess(gone, { args: ['x'], cwd: '/', ...change })).toThrow(
        expect.objectContaining({ code: 'TSV_CONTAINER_START' }),
      );
  });
});
