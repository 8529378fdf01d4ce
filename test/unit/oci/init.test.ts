import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { initExecutable } from '../../../src/oci/init.ts';
import { run } from '../../../src/sys/command.ts';
import { processStat } from '../../../src/sys/process.ts';
import { until } from '../../support/until.ts';

describe("the init's executable", () => {
  const elf = initExecutable();

  test('is an x86-64 ELF of one segment that nobody can write', () => {
    expect(elf.subarray(0, 8).toString('latin1')).toBe('\x7fELF\x02\x01\x01\x00');
    expect({
      type: elf.readUInt16LE(16),
      machine: elf.readUInt16LE(18),
      headers: elf.readUInt16LE(56),
      flags: elf.readUInt32LE(68),
    }).toEqual({ type: 2, machine: 62, headers: 1, flags: 5 });
  });

  test('is mapped whole, and is entered at its first instruction', () => {
    const [entry, address, inFile, inMemory] = [24, 80, 96, 104].map((at) => Number(elf.readBigUInt64LE(at)));
    expect([inFile, inMemory]).toEqual([elf.length, elf.length]);
    expect(entry).toBe((address ?? 0) + 64 + 56);
    expect(elf.length).toBeLessThan(1024);
  });
});

/** Whether an ordinary process may make user namespaces here (seccomp or a sysctl may forbid it). */
const unshare = ['unshare', '--user', '--map-root-user', '--pid', '--fork', '--kill-child'];
const forbidden = await run([...unshare, 'true']).then(
  ({ code, stderr }) => (code === 0 ? undefined : stderr.trim()),
  (error: Error) => error.message,
);

describe('the init as PID 1', () => {
  let folder: string;
  let init: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'init-'));
    init = join(folder, 'init');
    writeFileSync(init, initExecutable(), { mode: 0o755 });
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const children = (pid: number): number[] =>
    readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);

  /** Runs a shell line as PID 1 that then becomes the init; gives the init's pid here, and its end. */
  const start = async (line: string): Promise<{ pid: number; ended: Promise<number | string> }> => {
    const child = spawn(unshare[0] ?? '', [...unshare.slice(1), 'sh', '-c', `${line}\nexec "$0"`, init], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    const ended = new Promise<number | string>((resolve) =>
      child.once('close', (code, signal) => resolve(code ?? signal ?? 'nothing')),
    );
    const pid = await until('the init runs', () =>
      children(child.pid ?? 0).find((candidate) => readFileSync(`/proc/${candidate}/comm`, 'utf8') === 'init\n'),
    );
    return { pid, ended };
  };

  test.skipIf(forbidden !== undefined)('reaps what ends as its child, and ends itself on TERM', async () => {
    const { pid, ended } = await start('sleep 0.01 & sleep 0.02 & sh -c "sleep 0.03 & exit 4" &');
    await until('all are reaped', () => children(pid).length === 0);
    expect(processStat(pid)?.state).toMatch(/[SR]/);
    process.kill(pid, 'SIGTERM');
    expect(await ended).toBe(0);
  });

  test.skipIf(forbidden !== undefined).each(['SIGINT', 'SIGQUIT', 'SIGHUP'] as const)('ends on %s', async (signal) => {
    const { pid, ended } = await start(':');
    process.kill(pid, signal);
    expect(await ended).toBe(0);
  });

  test.skipIf(forbidden !== undefined)(
    'passes TERM on, and ends only when the last process has ended in its own way',
    async () => {
      const said = join(folder, 'said');
      const { pid, ended } = await start(
        `sh -c 'trap "sleep 0.1; echo bye >>${said}; exit" TERM; echo ready >>${said}; while :; do sleep 0.01; done' &`,
      );
      await until(
        'it is ready',
        () => readdirSync(folder).includes('said') && readFileSync(said, 'utf8') === 'ready\n',
      );
      process.kill(pid, 'SIGTERM');
      expect(await ended).toBe(0);
      expect(readFileSync(said, 'utf8')).toBe('ready\nbye\n');
    },
  );

  test.skipIf(forbidden !== undefined)('stays, whatever other signal comes', async () => {
    const { pid, ended } = await start('sleep 1000 &');
    for (const signal of ['SIGUSR1', 'SIGCHLD', 'SIGPIPE', 'SIGWINCH', 'SIGALRM'] as const) process.kill(pid, signal);
    const [sleeper] = children(pid);
    process.kill(sleeper ?? 0, 'SIGKILL');
    await until('the sleeper is reaped', () => children(pid).length === 0);
    expect(processStat(pid)).toBeDefined();
    process.kill(pid, 'SIGTERM');
    expect(await ended).toBe(0);
  });
});
