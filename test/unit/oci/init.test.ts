import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { initCode, initExecutable } from '../../../src/oci/init.ts';
import { run } from '../../../src/sys/command.ts';
import { processStat } from '../../../src/sys/process.ts';
import { assemble, hasAssembler } from '../../support/assemble.ts';
import { until } from '../../support/until.ts';

const source = join(import.meta.dirname, '..', '..', '..', 'src', 'oci', 'init.s');

test.skipIf(!hasAssembler)('the init is what its source says (skipped where no assembler is installed)', () => {
  expect(assemble(source)).toBe(initCode.toString('hex'));
});

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
  const start = async (line: string, argument = ''): Promise<{ pid: number; ended: Promise<number | string> }> => {
    const child = spawn(unshare[0] ?? '', [...unshare.slice(1), 'sh', '-c', `${line}\nexec "$0" ${argument}`, init], {
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

  describe('with a command as its child', () => {
    /** Process 2, as the shell's first child, and the init after it. */
    const startWith = (command: string) => start(`${command} &`, '-');
    /** The lines that a command has written to a file of this name so far. */
    const said = (name: string): string[] =>
      readdirSync(folder).includes(name) ? readFileSync(join(folder, name), 'utf8').split('\n').filter(Boolean) : [];
    /** A command that writes the name of each signal that it gets; perl can have signals that a shell's job ignores. */
    const listener = (file: string, signals: readonly string[]): string =>
      `perl -e 'open F, ">>", shift; select F; $| = 1; for (@ARGV) { $SIG{$_} = sub { print "$_[0]\\n" } } print "ready\\n"; sleep 1 while 1' ${join(folder, file)} ${signals.join(' ')}`;

    test.skipIf(forbidden !== undefined)('passes every signal on to it, and stays', async () => {
      const signals = ['HUP', 'INT', 'QUIT', 'USR1', 'USR2', 'PIPE', 'ALRM', 'TERM', 'CONT', 'WINCH', 'TSTP', 'TTOU'];
      const { pid, ended } = await startWith(listener('signals', signals));
      await until('it listens', () => said('signals').includes('ready'));
      for (const [i, name] of signals.entries()) {
        process.kill(pid, `SIG${name}` as NodeJS.Signals);
        await until(`${name} arrives`, () => said('signals').length === i + 2);
      }
      expect(said('signals').slice(1)).toEqual(signals);
      process.kill(children(pid)[0] ?? 0, 'SIGKILL');
      expect(await ended).toBe(137);
    });

    test.skipIf(forbidden !== undefined)('passes real-time signals on too, as systemd is stopped by one', async () => {
      const { pid, ended } = await startWith(listener('realtime', ['NUM37']));
      await until('it listens', () => said('realtime').includes('ready'));
      process.kill(pid, 37);
      await until('it arrives', () => said('realtime').includes('NUM37'));
      process.kill(children(pid)[0] ?? 0, 'SIGKILL');
      await ended;
    });

    test.skipIf(forbidden !== undefined).each([0, 7, 255])('ends with its exit code %i', async (code) => {
      const gate = join(folder, `gate-${code}`);
      execFileSync('mkfifo', [gate]);
      const { ended } = await startWith(`sh -c 'read x <${gate}; exit ${code}'`);
      writeFileSync(gate, 'go\n');
      expect(await ended).toBe(code);
    });

    test.skipIf(forbidden !== undefined).each([
      ['SIGKILL', 137],
      ['SIGTERM', 143],
      ['SIGSEGV', 139],
    ] as const)('ends with 128 and the signal that ended it: %s', async (signal, code) => {
      const { pid, ended } = await startWith('sleep 1000');
      process.kill(children(pid)[0] ?? 0, signal);
      expect(await ended).toBe(code);
    });

    test.skipIf(forbidden !== undefined)(
      'reaps orphans meanwhile, and does not take their end for its own',
      async () => {
        const { pid, ended } = await startWith(`sh -c '(sh -c "exit 9" & sleep 0.01 & sleep 0.02 &); exec sleep 1000'`);
        const command = await until('only the command is left', () => {
          const left = children(pid);
          return left.length === 1 && readFileSync(`/proc/${left[0]}/comm`, 'utf8') === 'sleep\n' && left[0];
        });
        expect(readFileSync(`/proc/${command}/status`, 'utf8')).toMatch(/^NSpid:.*\t2$/m);
        expect(processStat(pid)?.state).toMatch(/[SR]/);
        process.kill(pid, 'SIGTERM');
        expect(await ended).toBe(143);
      },
    );

    test.skipIf(forbidden !== undefined)('ends with one that had ended before it began', async () => {
      // A shell would reap it. This sees the end of the pipe when the child has let go of it.
      const script = 'pipe R, W; if (!fork) { exit 7 } close W; <R>; exec @ARGV';
      const child = spawn(unshare[0] ?? '', [...unshare.slice(1), 'perl', '-e', script, init, '-']);
      onTestFinished(() => void child.kill('SIGKILL'));
      expect(await new Promise((resolve) => child.once('close', resolve))).toBe(7);
    });

    test.skipIf(forbidden !== undefined)('takes all others along when it ends', async () => {
      const { pid, ended } = await startWith(`sh -c '(sleep 1000 &); exec sleep 1000'`);
      const both = await until('both are there', () => children(pid).length === 2 && children(pid));
      const command = both.find((one) => /^NSpid:.*\t2$/m.test(readFileSync(`/proc/${one}/status`, 'utf8')));
      process.kill(command ?? 0, 'SIGTERM');
      expect(await ended).toBe(143);
      for (const one of both) await until(`${one} is gone`, () => processStat(one) === undefined);
    });
  });
});
