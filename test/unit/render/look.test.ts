import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { Usage } from '../../../src/app/usage.ts';
import { createLive, fitRows } from '../../../src/cli/render/live.ts';
import { renderProjects } from '../../../src/cli/render/projects.ts';
import { formatMemory } from '../../../src/cli/render/size.ts';
import { renderStats } from '../../../src/cli/render/stats.ts';
import { pipe, screenOf } from './support.ts';

test.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 KiB'],
  [64 * 2 ** 20, '64 MiB'],
  [12.5 * 2 ** 20, '12.5 MiB'],
  [1000 * 2 ** 20, '1.0 GiB'],
  [3 * 2 ** 50, '3072 TiB'],
])('%d bytes of memory are %s', (bytes, text) => {
  expect(formatMemory(bytes)).toBe(text);
});

const usage = (machine: string, more: Partial<Usage>): Usage => ({
  time: '2026-01-01T00:00:00.000Z',
  machine,
  kind: 'container',
  cpuPercent: 0,
  memoryBytes: 0,
  memoryLimitBytes: 64 << 20,
  memoryPercent: 0,
  network: { receivedBytes: 0, sentBytes: 0 },
  disk: { readBytes: 0, writtenBytes: 0 },
  source: { cpu: 'cgroup', memory: 'cgroup', disk: 'cgroup' },
  ...more,
});

test('what machines use is a table whose numbers keep their place', () => {
  const busy = usage('web', {
    cpuPercent: 1234.56,
    memoryBytes: 12.5 * 2 ** 20,
    memoryPercent: 19.53,
    pids: 12345,
    network: { receivedBytes: 999_499, sentBytes: 12_300_000 },
  });
  expect(renderStats([usage('web', { pids: 1 }), usage('db', {})], screenOf(80, 24))).toBe(
    `MACHINE    CPU %    MEMORY     LIMIT   PIDS   NET IN  NET OUT     READ  WRITTEN
web         0.0%       0 B    64 MiB      1      0 B      0 B      0 B      0 B
db          0.0%       0 B    64 MiB      -      0 B      0 B      0 B      0 B
`,
  );
  expect(renderStats([busy, usage('db', {})], screenOf(80, 24))).toBe(
    `MACHINE    CPU %    MEMORY     LIMIT   PIDS   NET IN  NET OUT     READ  WRITTEN
web      1234.6%  12.5 MiB    64 MiB  12345   999 kB  12.3 MB      0 B      0 B
db          0.0%       0 B    64 MiB      -      0 B      0 B      0 B      0 B
`,
  );
  expect(renderStats([], pipe)).toBe('no machine is running\n');
});

test('projects are a table; one without a folder says so, with what of it runs', () => {
  const now = Date.parse('2026-01-01T12:00:00Z');
  const text = renderProjects(
    [
      { project: 'shop', dir: '/p/shop', running: 2, machines: 3, agent: 77, since: '2026-01-01T09:00:00Z' },
      {
        project: 'lost',
        dir: '/p/lo\x1b[2Jst',
        running: 0,
        machines: 0,
        problem: 'its folder is gone',
        processes: [8, 9],
      },
    ],
    pipe,
    now,
  );
  expect(text).toBe(`PROJECT  MACHINES     AGENT  SINCE        FOLDER   WHY
shop     2/3 running  77     3 hours ago  /p/shop
lost                                      /p/lost  its folder is gone (runs: 8, 9)
`);
  expect(renderProjects([], pipe, now)).toBe('no project has machines\n');
});

test('a picture is lower than the terminal', () => {
  const lines = ['a', 'b', 'c', 'd'];
  expect(fitRows(lines, screenOf(80, 5))).toEqual(lines);
  expect(fitRows(lines, screenOf(80, 4))).toEqual(['a', 'b', '… 2 more lines']);
});

test('what is shown again and again is one text after the other on a pipe, and in one place on a terminal', () => {
  const shown = (terminal: typeof pipe): string => {
    const stream = new PassThrough();
    const live = createLive(stream, () => terminal);
    live.show('one\n');
    live.show('two\n');
    live.done();
    return String(stream.read());
  };
  expect(shown(pipe)).toBe('one\n\ntwo\n');
  const drawn = shown(screenOf(80, 24));
  expect(drawn).toContain('one\x1b[K\n');
  expect(drawn).toContain('\x1b[1Atwo\x1b[K\n');
});
