import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { interpreter } from '../../../src/provision/shell.ts';
import { processRef } from '../../../src/sys/process.ts';
import { me, shell, useMachine } from './support.ts';

const machine = useMachine();
const leftovers = (): string[] => readdirSync('/tmp').filter((name) => /^tsv-provision-[0-9a-f]{32}$/.test(name));

describe('a shell step', () => {
  it('prints its output line by line, with machine, step and stream', async () => {
    await machine.run(shell('echo one; printf "two\\nthree"'));
    expect(machine.output).toEqual([
      'web-1 install stdout: one',
      'web-1 install stdout: two',
      'web-1 install stdout: three',
    ]);
    machine.output = [];
    await machine.run(shell('echo bad >&2'));
    expect(machine.output).toEqual(['web-1 install stderr: bad']);
  });

  it('gets its arguments, variables and folder as they are', async () => {
    const args = ['a b', "it's", '$(id)', '', 'x\ny'];
    await machine.run(shell('printf "<%s>" "$@" "$V"; echo; pwd', { args, env: { V: 'v $HOME' }, cwd: '/usr' }));
    expect(machine.output.join('\n').replaceAll('web-1 install stdout: ', '')).toBe(
      "<a b><it's><$(id)><><x\ny><v $HOME>\n/usr",
    );
  });

  it('is run by the program of its first line', async () => {
    await machine.run(shell('#!/usr/bin/env -S awk -f\nBEGIN { print "awk " ARGC }\n'));
    expect(machine.output).toEqual(['web-1 install stdout: awk 1']);
    const path = join(machine.dir, 'script');
    writeFileSync(path, '#!/bin/bash -e\nfalse\necho not reached\n');
    expect((await machine.failure(shell({ path }))).message).toBe("web-1: step 'install' failed with exit code 1");
  });

  it('runs as root or as the ordinary user', async () => {
    await machine.run(shell('true'));
    expect(machine.transport.requests.filter(({ argv }) => argv[0] === '/bin/sh').map(({ user }) => user)).toEqual([
      'root',
    ]);
    await machine.run(shell('true', { privileged: false }));
    expect(machine.transport.requests.filter(({ argv }) => argv[0] === '/bin/sh').map(({ user }) => user)).toEqual([
      'root',
      me.username,
    ]);
  });

  it('says which step failed with what, and shows the last 20 lines', async () => {
    const path = join(machine.dir, 'fails.sh');
    writeFileSync(path, 'for i in $(seq 30); do echo line $i; done; exit 3\n');
    const error = await machine.failure(shell({ path }));
    expect(error).toMatchObject({ code: 'TSV_PROVISION', message: "web-1: step 'install' failed with exit code 3" });
    expect(error.details[0]).toBe(`script: ${path}`);
    expect(error.details.slice(2)).toEqual(Array.from({ length: 20 }, (_, i) => `  line ${i + 11}`));
  });

  it('says which signal killed it', async () => {
    const error = await machine.failure(shell('kill -KILL $$'));
    expect(error.message).toBe("web-1: step 'install' was killed by signal KILL");
    expect(error.hint).toContain('memory');
  });

  it('says what is wrong with a script from Windows', async () => {
    const error = await machine.failure(shell('exit 3\r\n'));
    expect(error.hint).toContain('CRLF');
    const missing = await machine.failure(shell('#!/no/such/program\r\n'));
    expect(missing.message).toBe("web-1: step 'install' needs /no/such/program, which is not in the machine");
  });

  it('says that the script cannot be read', async () => {
    const error = await machine.failure(shell({ path: '/no/such/script' }));
    expect(error).toMatchObject({
      code: 'TSV_PROVISION',
      message: "web-1: the script of step 'install' cannot be read",
    });
  });

  it('removes the script afterwards, after success and after failure, and nobody else could read it', async () => {
    await machine.run(shell('stat -c %a "$0"'));
    expect(machine.output).toEqual(['web-1 install stdout: 700']);
    await machine.failure(shell('exit 1'));
    expect(leftovers()).toEqual([]);
  });

  it('does not wait on its stdin', async () => {
    await machine.run(shell('read -r x; echo "got <$x>"; cat'));
    expect(machine.output).toEqual(['web-1 install stdout: got <>']);
  });

  it('ends although a daemon that it started holds its output', async () => {
    await machine.run(shell('sleep 1000 & echo $!'));
    const pid = Number(machine.output[0]?.split(' ').at(-1));
    expect(processRef(pid)).toBeDefined();
    process.kill(pid);
  });

  it('keeps the values of variables out of command lines and events', async () => {
    const secret = 'secret-5b1f';
    machine.onLine = () => {
      const all = readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map(commandLine);
      expect(all.filter((line) => line.includes(secret))).toEqual([]);
    };
    await machine.run(shell('test -n "$SECRET" && echo ready', { env: { SECRET: secret } }));
    expect(machine.output).toEqual(['web-1 install stdout: ready']);
    const error = await machine.failure(shell('exit 1', { env: { SECRET: secret } }));
    expect(JSON.stringify(error)).not.toContain(secret);
  });

  it('prints 200 MB with bounded memory', async () => {
    const before = process.memoryUsage.rss();
    let most = 0;
    let characters = 0;
    machine.onLine = (line) => {
      characters += line.length;
      machine.output.length = 0;
      most = Math.max(most, process.memoryUsage.rss());
    };
    await machine.run(shell('head -c 209715200 /dev/zero | tr "\\0" x'));
    expect(characters).toBe(200 << 20);
    expect(most - before).toBeLessThan(150 << 20);
  }, 60_000);

  it('ends its whole process group when it is interrupted, and is not a success', async () => {
    machine.onLine = () => machine.abort.abort();
    const error = await machine.failure(shell('sleep 1000 & echo $!; wait; exit 0'));
    expect(error).toMatchObject({ code: 'TSV_CANCELLED', exitCode: 130 });
    await expect.poll(() => processRef(Number(machine.output[0]?.split(' ').at(-1)))).toBeUndefined();
    expect(leftovers()).toEqual([]);
  });

  it('is killed when it does not end on TERM', async () => {
    machine.onLine = () => machine.abort.abort();
    const error = await machine.failure(shell('trap "" TERM; echo up; while :; do sleep 0.1; done'));
    expect(error.code).toBe('TSV_CANCELLED');
  }, 20_000);

  it('is not started after an interruption', async () => {
    machine.abort.abort();
    expect((await machine.failure(shell('echo no'))).code).toBe('TSV_CANCELLED');
    expect(machine.output).toEqual([]);
  });

  it('has failed when the machine is lost on the way', async () => {
    machine.onLine = () => machine.transport.sever();
    const error = await machine.failure(shell('echo up; exec sleep 1000'));
    expect(error).toMatchObject({
      code: 'TSV_PROVISION',
      message: "web-1: step 'install' did not finish: the connection to the machine was lost",
      hint: expect.stringContaining('reboots'),
    });
    expect(error.details).toContain('  up');
    for (const name of leftovers()) rmSync(join('/tmp', name)); // nobody could remove it
  }, 10_000);
});

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // gone
  }
}

describe('the interpreter of a script', () => {
  it.each([
    ['echo', ['/bin/sh']],
    ['#!/bin/bash', ['/bin/bash']],
    ['#! /usr/bin/env python3\nx', ['/usr/bin/env', 'python3']],
    ['#!/usr/bin/env -S a b  c \nx', ['/usr/bin/env', '-S a b  c']],
    ['#!/bin/bash -e\r\nx', ['/bin/bash', '-e']],
    ['#!\nx', ['/bin/sh']],
    ['', ['/bin/sh']],
  ])('%j: %j', (script, argv) => {
    expect(interpreter(Buffer.from(script))).toEqual(argv);
  });
});
