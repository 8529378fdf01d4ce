import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { TsvError } from '../../../src/model/errors.ts';
import { waitExit } from '../../../src/sys/children.ts';
import { AT, CLONE, O, RESOLVE, SIGCHLD } from '../../../src/sys/flags.ts';
import { type ForkedChild, fork, stdio } from '../../../src/sys/fork.ts';
import { trySyscall } from '../../../src/sys/libc.ts';
import { processStat } from '../../../src/sys/process.ts';
import type { Step } from '../../../src/sys/program.ts';

/* Real children of this process: no privilege is needed for what they do. */

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fork-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const open = (path: string, flags: string): number => {
  const fd = openSync(path, flags);
  onTestFinished(() => closeSync(fd));
  return fd;
};
const output = (): { file: string; fds: Record<string, number> } => {
  const file = join(folder, `output-${Math.random().toString(36).slice(2)}`);
  const written = open(file, 'w');
  return { file, fds: { stdin: open('/dev/null', 'r'), stdout: written, stderr: written } };
};
const execute = (...argv: string[]): Step => ({
  call: 'execve',
  args: [argv[0] ?? '', { strings: argv }, { strings: ['PATH=/usr/bin:/bin'] }],
});
const say = (text: string): Step => ({ call: 'write', args: [{ fd: 'stdout' }, text, text.length] });
const awaitGo: Step = {
  call: 'read',
  args: [{ fd: 'go' }, { bytes: new Uint8Array(8), out: true }, 1],
  mode: 'positive',
};
const failureOf = (child: ForkedChild): Promise<TsvError> =>
  child.executed.then(
    () => expect.fail('it was executed'),
    (error: TsvError) => error,
  );
const ownFds = (): string[] => readdirSync('/proc/self/fd');

describe('a forked child', () => {
  test('runs its steps in order and executes the program', async () => {
    const { file, fds } = output();
    const child = fork({ fds, steps: [say('first '), say('second '), ...stdio(), execute('/bin/echo', 'third')] });
    await child.executed;
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
    expect(readFileSync(file, 'utf8')).toBe('first second third\n');
  });

  test('passes argv and environment as they are', async () => {
    const { file, fds } = output();
    const argv = ['/usr/bin/env', 'sh', '-c', 'printf "%s|" "$@" "$LOVE"', '-', '', 'ein Wort', 'ä€😀', "'", '\n'];
    const exec: Step = {
      call: 'execve',
      args: ['/usr/bin/env', { strings: argv }, { strings: ['LOVE=♥ =', 'PATH=/usr/bin:/bin'] }],
    };
    const child = fork({ fds, steps: [...stdio(), exec] });
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
    expect(readFileSync(file, 'utf8')).toBe("|ein Wort|ä€😀|'|\n|♥ =|");
  });

  test('may be given more than a page of arguments', async () => {
    const { file, fds } = output();
    const words = Array.from({ length: 2000 }, (_, i) => `word-${i}`);
    const child = fork({ fds, steps: [...stdio(), execute('/bin/echo', ...words)] });
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
    expect(readFileSync(file, 'utf8')).toBe(`${words.join(' ')}\n`);
  });

  test('ends with 127, and the error names the step and its errno', async () => {
    const { file, fds } = output();
    const steps: Step[] = [
      say('before '),
      { call: 'chdir', args: ['/no/such/folder'], note: 'its home' },
      say('after'),
      ...stdio(),
      execute('/bin/true'),
    ];
    const child = fork({ fds, steps });
    expect((await failureOf(child)).message).toBe('chdir /no/such/folder # its home: ENOENT');
    expect(await waitExit(child.pid)).toEqual({ code: 127 });
    expect(readFileSync(file, 'utf8')).toBe('before ');
  });

  test('lets the caller word the error', async () => {
    const child = fork(
      { fds: {}, steps: [execute('/no/such/program')] },
      (step, errno) => Object.assign(new Error(`${errno}!`), { step }) as unknown as TsvError,
    );
    const error = await failureOf(child);
    expect(error.message).toBe('ENOENT!');
    expect(error).toHaveProperty('step', expect.stringMatching(/^execve \/no\/such\/program /));
    await waitExit(child.pid);
  });

  test('passes over the errors of a step that may fail', async () => {
    const { fds } = output();
    const child = fork({
      fds,
      steps: [{ call: 'chdir', args: ['/no/such/folder'], mode: 'may' }, ...stdio(), execute('/bin/true')],
    });
    await child.executed;
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
  });

  test('ends with 127 when its program has no command at its end', async () => {
    const child = fork({ fds: {}, steps: [{ call: 'umask', args: [0o22] }] });
    expect(await waitExit(child.pid)).toEqual({ code: 127 });
  });

  test('uses the result of one step in a later one', async () => {
    const { file, fds } = output();
    const how = Buffer.alloc(24);
    how.writeBigUInt64LE(BigInt(O.PATH | O.DIRECTORY | O.CLOEXEC), 0);
    how.writeBigUInt64LE(BigInt(RESOLVE.NO_MAGICLINKS), 16);
    const steps: Step[] = [
      { call: 'openat2', args: [AT.FDCWD, '/usr/bin', { bytes: how }, 24], as: 'opened' },
      { call: 'dup3', args: [{ result: 'opened' }, { fd: 'place' }, O.CLOEXEC] },
      { call: 'chdir', args: [{ fdPath: 'place' }] },
      ...stdio(),
      execute('/bin/pwd', '-P'),
    ];
    const child = fork({ fds: { ...fds, place: -1 }, steps });
    await child.executed;
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
    expect(readFileSync(file, 'utf8').trim()).toBe('/usr/bin');
  });

  test('has descriptors 0, 1 and 2 and no other, however many its parent has', async () => {
    const opened = Array.from({ length: 300 }, () => openSync('/dev/null', 'r'));
    // Node opens everything close-on-exec; these two are not.
    for (const number of [700, 701]) expect(trySyscall('dup3', opened[0] ?? -1, number, 0)).toBe(number);
    onTestFinished(() => {
      for (const fd of [...opened, 700, 701]) closeSync(fd);
    });
    const { fds } = output();
    const child = fork({
      fds: { ...fds, other: opened[299] ?? -1 },
      steps: [...stdio(), execute('/bin/sleep', '1000')],
    });
    await child.executed;
    expect(readdirSync(`/proc/${child.pid}/fd`)).toEqual(['0', '1', '2']);
    process.kill(child.pid, 'SIGKILL');
    expect(await waitExit(child.pid)).toEqual({ signal: 9 });
  });

  test('blocks no signal and ignores none, though Node ignores SIGPIPE', async () => {
    const ignored = (pid: number | string) =>
      /^SigIgn:\s*(\w+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
    expect(BigInt(`0x${ignored('self')}`) & (1n << 12n), 'SIGPIPE is ignored here').not.toBe(0n);
    const { fds } = output();
    const child = fork({ fds, steps: [...stdio(), execute('/bin/sleep', '1000')] });
    await child.executed;
    const status = readFileSync(`/proc/${child.pid}/status`, 'utf8');
    process.kill(child.pid, 'SIGKILL');
    await waitExit(child.pid);
    expect(status).toMatch(/^SigBlk:\s*0+$/m);
    expect(status).toMatch(/^SigIgn:\s*0+$/m);
  });

  test('leaves the signals of its parent as they were', async () => {
    const blocked = () => /^SigBlk:.*$/m.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[0];
    const before = blocked();
    const { fds } = output();
    const child = fork({ fds, steps: [...stdio(), execute('/bin/true')] });
    expect(blocked()).toBe(before);
    await waitExit(child.pid);
  });
});

describe('the talk between parent and child', () => {
  const forked: Step = { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] };

  test('a report arrives with its value: the pid of the real child, which is a child of ours', async () => {
    const { file, fds } = output();
    const child = fork({
      fds,
      steps: [{ report: 'unshared' }, forked, ...stdio(), execute('/bin/sh', '-c', 'echo $$; exit 7')],
    });
    await child.reported('unshared');
    const pid = await child.reported('forked');
    await child.executed;
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
    expect(await waitExit(pid)).toEqual({ code: 7 });
    expect(readFileSync(file, 'utf8')).toBe(`${pid}\n`);
    expect(await child.reported('forked'), 'asked again later').toBe(pid);
  });

  test('nothing behind the gate happens before go(), once per gate', async () => {
    const { file, fds } = output();
    const child = fork({
      fds,
      steps: [
        say('1'),
        { report: 'unshared' },
        awaitGo,
        say('2'),
        { report: 'forked' },
        awaitGo,
        say('3'),
        ...stdio(),
        execute('/bin/true'),
      ],
    });
    await child.reported('unshared');
    expect(readFileSync(file, 'utf8')).toBe('1');
    child.go();
    await child.reported('forked');
    expect(readFileSync(file, 'utf8')).toBe('12');
    child.go();
    await child.executed;
    expect(readFileSync(file, 'utf8')).toBe('123');
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
  });

  test('abandon() ends a child that waits, before it does anything more', async () => {
    const { file, fds } = output();
    const child = fork({
      fds,
      steps: [{ report: 'unshared' }, awaitGo, say('more'), ...stdio(), execute('/bin/true')],
    });
    await child.reported('unshared');
    child.abandon();
    expect((await failureOf(child)).message).toMatch(/^read fd:go .*: the agent ended$/);
    expect(await waitExit(child.pid)).toEqual({ code: 127 });
    expect(readFileSync(file, 'utf8')).toBe('');
  });

  test('abandon() has no effect on a child that went on, and go() none on one that is gone', async () => {
    const { fds } = output();
    const child = fork({ fds, steps: [awaitGo, ...stdio(), execute('/bin/true')] });
    child.go();
    await child.executed;
    child.abandon();
    child.go();
    expect(await waitExit(child.pid)).toEqual({ code: 0 });
  });

  test('a report that will never come is refused with what went wrong instead', async () => {
    const failing = fork({ fds: {}, steps: [{ call: 'chdir', args: ['/no/such'] }, { report: 'unshared' }] });
    await expect(failing.reported('unshared')).rejects.toThrow('chdir /no/such: ENOENT');
    await expect(failing.reported('unshared'), 'asked again later').rejects.toThrow('chdir /no/such: ENOENT');
    await waitExit(failing.pid);
    const { fds } = output();
    const silent = fork({ fds, steps: [...stdio(), execute('/bin/true')] });
    await expect(silent.reported('unshared')).rejects.toThrow('ended early');
    await waitExit(silent.pid);
  });
});

describe('what a fork leaves behind', () => {
  test('no zombie and no descriptor, whether the child succeeded or failed', async () => {
    const { fds } = output();
    const before = ownFds().length;
    for (const last of [execute('/bin/true'), execute('/no/such/program')]) {
      const child = fork({ fds, steps: [...stdio(), last] });
      await child.executed.catch(() => {});
      await waitExit(child.pid);
      expect(processStat(child.pid)).toBeUndefined();
    }
    expect(ownFds().length).toBe(before);
  });

  test.each<[string, Step, string]>([
    ['names an unknown descriptor', { call: 'dup3', args: [{ fd: 'nobody' }, 0, 0] }, "no descriptor 'nobody'"],
    ['has a NUL byte in a text', { call: 'chdir', args: ['a\0b'] }, 'a NUL byte in'],
  ])('no descriptor when the program %s and cannot be laid out', (_, step, message) => {
    const before = ownFds().length;
    expect(() => fork({ fds: {}, steps: [step] })).toThrow(message);
    expect(ownFds().length).toBe(before);
  });

  test('a result that is used three times is refused before anything runs', () => {
    const thrice: Step[] = [
      { call: 'umask', args: [0], as: 'mask' },
      { call: 'umask', args: [{ result: 'mask' }] },
      { call: 'umask', args: [{ result: 'mask' }] },
      { call: 'umask', args: [{ result: 'mask' }] },
    ];
    expect(() => fork({ fds: {}, steps: thrice })).toThrow("result 'mask' is used more than twice");
  });
});
