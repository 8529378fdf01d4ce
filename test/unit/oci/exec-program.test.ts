import { describe, expect, test } from 'vitest';
import { type ExecProgram, execProgram } from '../../../src/oci/exec.ts';
import { CLONE, RESOLVE } from '../../../src/sys/flags.ts';
import { allCapabilities, calls, expectOrder, index, lines } from './program-requests.ts';

const { NEWUSER, NEWNS, NEWPID, NEWNET, NEWUTS, NEWIPC, NEWCGROUP, NEWTIME } = CLONE;
const everyNamespace = NEWUSER | NEWNS | NEWPID | NEWNET | NEWUTS | NEWIPC | NEWCGROUP | NEWTIME;
const capabilities = ['CAP_CHOWN', 'CAP_SETUID', 'CAP_NET_BIND_SERVICE'];

const request = (change: Partial<ExecProgram> = {}): ExecProgram => ({
  process: {
    args: ['id', '-u'],
    env: ['PATH=/usr/bin:/bin'],
    cwd: '/home/anna',
    user: { uid: 1000, gid: 1000, additionalGids: [27, 100] },
    capabilities: { bounding: capabilities },
    noNewPrivileges: true,
  },
  seccomp: { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_X86_64'] },
  cgroupFolders: [],
  cgroups: 1,
  namespaces: everyNamespace,
  lastCapability: 40,
  bounding: allCapabilities,
  console: false,
  ownStdio: [],
  privileged: true,
  preserved: 0,
  ...change,
});
const exec = (change: Partial<ExecProgram> = {}): string[] => lines(execProgram(request(change)));
const limited = { ...request().process, rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1, hard: 2 }] };
const terminal = { ...request().process, terminal: true, consoleSize: { width: 80, height: 24 } };

describe('the program of a command in a container', () => {
  test('is this', async () => {
    await expect(`${exec().join('\n')}\n`).toMatchFileSnapshot('exec.program.txt');
  });

  test('with a console, is this', async () => {
    const program = exec({ process: terminal, console: true, preserved: 1 });
    await expect(`${program.join('\n')}\n`).toMatchFileSnapshot('exec-terminal.program.txt');
  });

  test('joins the cgroups before it can see anything of the container', () => {
    expectOrder(exec(), /^write fd:cgroup0 0 1/, /^setns fd:target/);
  });

  test('enters all namespaces at once, then forks into the new process namespace', () => {
    const text = exec();
    const enter = index(text, /^setns fd:target/);
    for (const kind of ['USER', 'NS', 'PID', 'NET', 'UTS', 'IPC', 'CGROUP', 'TIME'])
      expect(text[enter]).toContain(`CLONE_NEW${kind}`);
    expect(text[enter + 1]).toMatch(/^fork CLONE_PARENT/);
    expect(text.filter((line) => line.startsWith('setns'))).toHaveLength(1);
  });

  test('becomes root of a user namespace before it touches anything there; without one it is root already', () => {
    expectOrder(exec(), /^fork/, /^setresuid 0 0 0/, /^keyctl/, /^openat2/);
    expect(exec({ namespaces: NEWNS | NEWPID }).filter((line) => line.startsWith('setresuid'))).toEqual([
      'setresuid 1000 1000 1000',
    ]);
  });

  test('waits until its limits are set, with all its rights, and nothing of the container has run', () => {
    const text = exec({ process: limited });
    const told = index(text, /^report mounted/);
    expect(text[told + 1]).toBe('read fd:go <8 bytes> 1 (positive)');
    expect(told).toBeLessThan(index(text, /# drop/));
    expect(exec().join('\n')).not.toContain('read fd:go');
  });

  test('finds the working directory inside, through no link of /proc', () => {
    const steps = calls(execProgram(request()));
    const opened = steps.find(({ note }) => note === 'working directory /home/anna');
    const how = opened?.args[2];
    const resolve = typeof how === 'object' && 'bytes' in how ? Number(Buffer.from(how.bytes).readBigUInt64LE(16)) : 0;
    expect(opened?.args.slice(0, 2)).toEqual([-100, 'home/anna']);
    expect(resolve).toBe(RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
    expectOrder(exec(), /^setns/, /^openat2 -100 home\/anna/, /fchdir fd:dir # working/);
  });

  test('enters it as root, for it may be closed to the user; where root may not, as the user', () => {
    const text = exec();
    const entered = index(text, /^if possible: fchdir fd:dir # working directory \/home\/anna/);
    expect(entered).toBeLessThan(index(text, /^setresuid 1000 1000 1000/));
    expect(text.slice(entered + 1, entered + 5)).toEqual([
      'else',
      '  setfsgid 1000',
      '  setfsuid 1000',
      '  fchdir fd:dir # working directory /home/anna',
    ]);
  });

  test('has its rights taken in the order in which each can still be taken, then executes', () => {
    const order = [
      /^setns/,
      /# drop/,
      /^setgroups 2/,
      /^setresuid 1000 1000 1000/,
      /^capset/,
      /^prctl 38 1/,
      /^seccomp/,
      /^execve/,
    ];
    expectOrder(exec(), ...order);
    expect(exec().filter((line) => line.includes('# drop'))).toHaveLength(41 - capabilities.length);
  });

  test('groups that were asked for must be set; else a namespace that forbids setgroups(2) is no hindrance', () => {
    expect(exec()).toContain('setgroups 2 <8 bytes>');
    const { user: _, ...plain } = request().process;
    expect(exec({ process: plain }).filter((line) => line.startsWith('setgroups 0'))).toEqual([
      'setgroups 0 <4 bytes> (may)',
      'setgroups 0 <4 bytes> (may)',
    ]);
  });

  test('has its own file mode mask, else that of every container', () => {
    expect(exec()).toContain('umask 18');
    const { process } = request();
    expect(exec({ process: { ...process, user: { uid: 0, gid: 0, umask: 0o77 } } })).toContain('umask 63');
  });

  test('makes a terminal that it is given its controlling one, as the leader of a session', () => {
    const text = exec({ process: terminal });
    expectOrder(text, /^setsid/, /^ioctl fd:stdin 21518 0 # TIOCSCTTY/, /^execve/);
    expect(exec().join('\n')).not.toContain('TIOCSCTTY');
    expect(text.join('\n')).not.toContain('ptmx');
  });

  test('opens a terminal of the container itself for a console socket, and none of /dev/console', () => {
    const text = exec({ process: { ...limited, ...terminal, rlimits: limited.rlimits }, console: true });
    expectOrder(
      text,
      /^setns/,
      /^openat2 -100 dev\/pts\/ptmx/,
      /^sendmsg fd:console/,
      /^report mounted/,
      /^ioctl fd:slave 21518/,
    );
    expect(text.join('\n')).not.toContain('/dev/console');
    expect(text.filter((line) => line.includes('TIOCSCTTY'))).toHaveLength(1);
  });

  test('gives descriptors on from 3', () => {
    const text = exec({ preserved: 2 });
    expectOrder(text, /^dup3 fd:preserved0 3 0/, /^dup3 fd:preserved1 4 0/, /^execve/);
    for (const [i, name] of ['stdin', 'stdout', 'stderr'].entries()) expect(text).toContain(`dup3 fd:${name} ${i} 0`);
  });

  test('after its filter it only executes: a filter knows what the command needs, and no more', () => {
    const text = exec();
    const rest = text.slice(index(text, /^seccomp/) + 1).map((line) => line.split(' ')[0]);
    expect([...new Set(rest)]).toEqual(['execve']);
  });

  test('can execute another file than its first argument says: a hook', () => {
    const [only, ...more] = exec({ file: '/bin/hook' }).filter((line) => line.startsWith('execve'));
    expect(only).toMatch(/^execve \/bin\/hook \[id -u\] .* # the command$/);
    expect(more).toEqual([]);
  });

  test('the user owns its pipes, before the rights for that are gone', () => {
    expectOrder(exec({ ownStdio: ['stdout'] }), /^fchown fd:stdout 1000 -1 \(may\)/, /^setresuid 1000/);
  });

  // /proc/PID/fd of it, in a container that may trace: CVE-2016-9962.
  test('cannot be looked into by the container that it enters', () => {
    expectOrder(exec(), /^prctl 4 0/, /^setns/);
  });
});
