import { spawn } from 'node:child_process';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LaunchRequest } from '../../../src/model/launch.ts';
import { findProgram, launchProcess, signalProcess, waitExit } from '../../../src/sys/children.ts';
import { fork, stdio } from '../../../src/sys/fork.ts';
import { bootId, isAlive, processRef, processStat } from '../../../src/sys/process.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'children-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const child = async (script: string): Promise<number> => {
  const [input, output] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'w')];
  try {
    const forked = fork({
      fds: { stdin: input, stdout: output, stderr: output },
      steps: [...stdio(), { call: 'execve', args: ['/bin/sh', { strings: ['sh', '-c', script] }, { strings: [] }] }],
    });
    await forked.executed;
    return forked.pid;
  } finally {
    for (const fd of [input, output]) closeSync(fd);
  }
};

describe('waitExit', () => {
  test.each([
    ['its exit code', 'exit 0', { code: 0 }],
    ['an exit code of 255', 'exit 255', { code: 255 }],
    ['the signal that ended it', 'kill -TERM $$', { signal: 15 }],
    ['KILL', 'kill -KILL $$', { signal: 9 }],
  ])('gives %s and leaves no zombie', async (_, script, status) => {
    const pid = await child(script);
    expect(await waitExit(pid)).toEqual(status);
    expect(processStat(pid)).toBeUndefined();
  });

  test('resolves with nothing for a process that is gone', async () => {
    const pid = await child('exit 3');
    await waitExit(pid);
    expect(await waitExit(pid)).toBeUndefined();
  });

  test('notices the end of a process that is no child, without its status', async () => {
    const parent = spawn('sh', ['-c', 'sleep 1000 & echo $!; wait'], { stdio: ['ignore', 'pipe', 'ignore'] });
    const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)));
    const gone = waitExit(pid);
    process.kill(pid, 'SIGKILL');
    expect(await gone).toBeUndefined();
    await new Promise((resolve) => parent.once('close', resolve));
  });

  test('tells everybody who waits for the same child; one of them learns the status', async () => {
    const pid = await child('exec sleep 1000');
    const waiting = [waitExit(pid), waitExit(pid), waitExit(pid)];
    process.kill(pid, 'SIGTERM');
    const statuses = await Promise.all(waiting);
    expect(statuses.filter((status) => status !== undefined)).toEqual([{ signal: 15 }]);
  });
});

describe('signalProcess', () => {
  test('reaches the process that is meant, and no other that has its pid', async () => {
    const pid = await child('exec sleep 1000');
    const ref = processRef(pid);
    if (ref === undefined) return expect.fail('it runs');
    for (const stranger of [
      undefined,
      { ...ref, startTime: `${ref.startTime}1` },
      { ...ref, bootId: 'another boot' },
    ]) {
      expect(signalProcess(stranger, 9)).toBe(false);
    }
    expect(isAlive(ref)).toBe(true);
    expect(signalProcess(ref, 15)).toBe(true);
    expect(await waitExit(pid)).toEqual({ signal: 15 });
    expect(signalProcess(ref, 15), 'it is gone').toBe(false);
    expect(isAlive(ref)).toBe(false);
  });
});

describe('a process reference', () => {
  test('names this very process, with a start time of whole clock ticks', () => {
    const ref = processRef(process.pid);
    expect(ref).toEqual({ pid: process.pid, startTime: expect.stringMatching(/^\d+$/), bootId: bootId() });
    expect(isAlive(ref)).toBe(true);
  });

  test('does not exist for a zombie', async () => {
    // A shell would look after its child.
    const program = '$| = 1; my $child = fork // die; exit if !$child; print "$child\\n"; sleep 1000';
    const parent = spawn('perl', ['-e', program], { stdio: ['ignore', 'pipe', 'ignore'] });
    const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)));
    await waitExit(pid); // its end, not its burial: the sleeping parent never looks
    expect(processStat(pid)?.state).toBe('Z');
    expect(processRef(pid)).toBeUndefined();
    parent.kill('SIGKILL');
    await new Promise((resolve) => parent.once('close', resolve));
  });

  test('is read right when the name of the program holds brackets and spaces', async () => {
    const [input, output] = [openSync('/dev/null', 'r'), openSync('/dev/null', 'w')];
    const program = join(folder, 'a) R (b');
    writeFileSync(program, readFileSync('/bin/sleep'), { mode: 0o755 });
    const sleeper = spawn(program, ['1000'], { stdio: [input, output, output] });
    for (const fd of [input, output]) closeSync(fd);
    await new Promise((resolve) => sleeper.once('spawn', resolve));
    const stat = processStat(sleeper.pid ?? 0);
    sleeper.kill('SIGKILL');
    await new Promise((resolve) => sleeper.once('close', resolve));
    expect(stat).toMatchObject({ ppid: process.pid, startTime: expect.stringMatching(/^\d+$/) });
  });
});

describe('a launched process', () => {
  const end = async (pid: number): Promise<void> => {
    const gone = waitExit(pid);
    process.kill(pid, 'SIGKILL');
    await gone;
  };
  const launch = (request: Omit<LaunchRequest, 'net'>) => launchProcess({ net: 'host', ...request }, {});

  test('is in a session of its own, at /, and holds nothing but stdio and the given descriptors', async () => {
    const given = openSync(join(folder, 'given'), 'w');
    const logFile = join(folder, 'log');
    const { pid } = await launch({ argv: ['sleep', '1000'], logFile, fds: [given] });
    closeSync(given);
    const link = (fd: string) => readlinkSync(`/proc/${pid}/fd/${fd}`);
    expect(Object.fromEntries(readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, link(fd)]))).toEqual({
      0: '/dev/null',
      1: logFile,
      2: logFile,
      3: join(folder, 'given'),
    });
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe('/');
    expect(readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[5], 'session').toBe(String(pid));
    await end(pid);
  });

  test('gets a small environment, or exactly the given one', async () => {
    const environment = (pid: number) => readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean);
    const plain = await launch({ argv: ['sleep', '1000'] });
    const given = await launch({ argv: ['sleep', '1000'], env: { ONLY: 'this' } });
    const names = environment(plain.pid).map((entry) => entry.split('=')[0]);
    expect(['HOME', 'LANG', 'PATH', 'TMPDIR', 'XDG_RUNTIME_DIR']).toEqual(expect.arrayContaining(names));
    expect(environment(given.pid)).toEqual(['ONLY=this']);
    for (const { pid } of [plain, given]) await end(pid);
  });

  test('appends its output to the log', async () => {
    const logFile = join(folder, 'appended');
    for (const word of ['one', 'two']) {
      const { pid } = await launch({ argv: ['sh', '-c', `echo ${word}; exec sleep 1000`], logFile });
      const written = () => readFileSync(logFile, 'utf8').includes(word);
      while (!written()) await new Promise(setImmediate);
      await end(pid);
    }
    expect(readFileSync(logFile, 'utf8')).toBe('one\ntwo\n');
  });

  test('that does not exist is named, with where to look', async () => {
    await expect(launch({ argv: ['no-such-program-here'] })).rejects.toMatchObject({
      code: 'TSV_HOST_MISSING',
      message: "the program 'no-such-program-here' is not installed",
    });
  });

  test('is found in PATH, and taken as it is when it has a slash', () => {
    writeFileSync(join(folder, 'tool'), '', { mode: 0o755 });
    writeFileSync(join(folder, 'text'), '', { mode: 0o644 });
    expect(findProgram('tool', `/no/such/folder:${folder}`)).toBe(join(folder, 'tool'));
    expect(findProgram(join(folder, 'tool'), '')).toBe(join(folder, 'tool'));
    expect(() => findProgram('text', folder), 'not executable').toThrow("'text' is not installed");
  });
});
