import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hookKinds, type OciHookKind, type OciState } from '../../../src/oci/spec.ts';
import { type Container, ociHost, useRootfs } from '../../support/bundle.ts';

useRootfs();

describe('hooks', () => {
  /** Each appends its kind, its name, where it runs, and what it was told. */
  const logging = (kind: OciHookKind, box: Container, name: string) => {
    const log = kind === 'startContainer' ? '/hooks' : join(box.rootfs, 'hooks');
    const script = `echo "${kind} $0 $WHAT $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/uts) $(cat)" >>${log}`;
    return { path: '/bin/sh', args: ['sh', '-c', script, name], env: ['PATH=/bin:/usr/bin', `WHAT=${name}.`] };
  };

  test('of all six kinds run in order, where they belong, with the state on standard input', async () => {
    const box = ociHost().container('exec sleep 1000', (config, box) => {
      config.annotations = { a: 'b' };
      const both = (kind: OciHookKind) => ['one', 'two'].map((name) => logging(kind, box, name));
      config.hooks = Object.fromEntries(hookKinds.map((kind) => [kind, both(kind)]));
    });
    const ran = () =>
      box
        .read('hooks')
        .split('\n')
        .filter(Boolean)
        .map((line) => {
          const [, kind, name, env, mnt, uts, state] = /^(\S+) (\S+) (\S+) (\S+) (\S+) (.*)$/.exec(line) ?? [];
          return { kind, name, env, mnt, uts, state: JSON.parse(state ?? '') as OciState };
        });
    const kinds = () => ran().map(({ kind, name, env }) => `${kind} ${name} ${env}`);
    const twice = (...all: string[]) => all.flatMap((kind) => [`${kind} one one.`, `${kind} two two.`]);

    await box.ok('create');
    expect(kinds()).toEqual(twice('prestart', 'createRuntime', 'createContainer'));
    const pid = await box.pid();
    const inside = { mnt: readlinkSync(`/proc/${pid}/ns/mnt`), uts: readlinkSync(`/proc/${pid}/ns/uts`) };
    await box.ok('start');
    expect(kinds().slice(6)).toEqual(twice('startContainer', 'poststart'));
    await box.ok('kill', 'KILL');
    await box.becomes('stopped');
    expect(ran()).toHaveLength(10);
    await box.ok('delete');
    expect(kinds().slice(10)).toEqual(twice('poststop'));

    const here = { mnt: readlinkSync('/proc/self/ns/mnt'), uts: readlinkSync('/proc/self/ns/uts') };
    const statuses: Record<string, string> = { startContainer: 'created', poststart: 'running', poststop: 'stopped' };
    for (const { kind = '', mnt, uts, state } of ran()) {
      const isInside = kind === 'createContainer' || kind === 'startContainer';
      expect({ kind, mnt, uts }).toEqual({ kind, ...(isInside ? inside : here) });
      expect(state).toMatchObject({ ociVersion: '1.2.0', id: box.id, bundle: box.bundle, annotations: { a: 'b' } });
      expect(`${kind} ${state.status}`).toBe(`${kind} ${statuses[kind] ?? 'creating'}`);
      if (kind !== 'poststop') expect(state.pid, kind).toBe(pid);
    }
  });

  test.each(['prestart', 'createRuntime', 'createContainer'] as const)(
    'a failing %s hook fails create with what it said, and leaves nothing',
    async (kind) => {
      const box = ociHost().container('true', (config) => {
        config.hooks = { [kind]: [{ path: '/bin/sh', args: ['sh', '-c', 'echo no luck >&2; exit 6'] }] };
      });
      const { code, stderr } = await box.call('create');
      expect(code).toBe(1);
      expect(stderr).toContain(`hooks.${kind}[0]`);
      expect(stderr).toContain('no luck');
      await box.host.expectNothingLeft();
    },
  );

  test('a failing startContainer hook fails start, and the process never runs', async () => {
    const box = ociHost().container('echo ran', (config) => {
      config.hooks = { startContainer: [{ path: '/bin/sh', args: ['sh', '-c', 'exit 6'] }] };
    });
    await box.ok('create');
    const { code, stderr } = await box.call('start');
    expect(code).toBe(1);
    expect(stderr).toContain('hooks.startContainer[0]');
    expect(box.output).toBe('');
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });

  test('a failing poststop hook is said, and the container is deleted', async () => {
    const box = ociHost().container('true', (config) => {
      config.hooks = { poststop: [{ path: '/bin/false' }] };
    });
    await box.ok('create');
    const { code, stderr } = await box.call('delete --force');
    expect(code).toBe(0);
    expect(stderr).toContain('hooks.poststop[0]');
    await box.host.expectNothingLeft();
  });

  test('the hooks after a failing poststart or poststop hook run too', async () => {
    const box = ociHost().container('exec sleep 1000', (config, { rootfs }) => {
      const both = (kind: string) => [
        { path: '/bin/false' },
        { path: '/bin/sh', args: ['sh', '-c', `echo ${kind} >>${rootfs}/hooks`] },
      ];
      config.hooks = { poststart: both('poststart'), poststop: both('poststop') };
    });
    await box.ok('create');
    const started = await box.call('start');
    expect(started.code).toBe(0);
    expect(started.stderr).toContain('hooks.poststart[0]');
    expect((await box.state()).status).toBe('running');
    const deleted = await box.call('delete --force');
    expect(deleted.code).toBe(0);
    expect(deleted.stderr).toContain('hooks.poststop[0]');
    expect(box.read('hooks')).toBe('poststart\npoststop\n');
  });

  test('a hook need not read its input, and may leave a process behind that keeps its output open', async () => {
    const box = ociHost().container('true', (config, { rootfs }) => {
      // More than a pipe holds: whoever writes it would wait for a reader, or be told that there is none.
      config.annotations = { long: 'x'.repeat(200_000) };
      const daemon = { path: '/bin/sh', args: ['sh', '-c', `sleep 1000 & echo $! >${rootfs}/daemon`] };
      config.hooks = { createRuntime: [{ path: '/bin/true' }, daemon], poststop: [{ path: '/bin/true' }] };
    });
    const { code, stderr } = await box.call('run');
    process.kill(Number(box.read('daemon')), 'SIGKILL');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  test('a hook without env has the environment of the runtime, and inside that of the process', async () => {
    const box = ociHost().container('true', (config, { rootfs }) => {
      const hook = (name: string, root: string, env?: string[]) => ({
        path: '/bin/sh',
        args: ['sh', '-c', `echo "${name} $OCI_RUNTIME_HAS $PROCESS_HAS" >>${root}/hooks`],
        ...(env === undefined ? {} : { env }),
      });
      config.process.env = ['PATH=/bin', 'PROCESS_HAS=process'];
      config.hooks = {
        createRuntime: [hook('createRuntime', rootfs), hook('none', rootfs, [])],
        createContainer: [hook('createContainer', rootfs)],
        startContainer: [hook('startContainer', ''), hook('none', '', [])],
      };
    });
    expect(await box.callWith({ env: { OCI_RUNTIME_HAS: 'runtime' } }, 'run')).toMatchObject({ code: 0 });
    expect(box.read('hooks').split('\n')).toEqual([
      'createRuntime runtime ',
      'none  ',
      'createContainer runtime ',
      'startContainer  process',
      'none  ',
      '',
    ]);
  });

  test('a hook that does not end in time is killed', async () => {
    const box = ociHost().container('true', (config) => {
      config.hooks = { createRuntime: [{ path: '/bin/sleep', args: ['sleep', '1000'], timeout: 1 }] };
    });
    const { code, stderr } = await box.call('create');
    expect(code).toBe(1);
    expect(stderr).toContain('timeout');
    await box.host.expectNothingLeft();
  });

  test('the namespaces are there, and the root file system is not entered yet, when createContainer hooks run', async () => {
    const box = ociHost().container('cat /from-hook', (config, { rootfs }) => {
      const script = `(echo "$(cat)"; grep -c ${rootfs} /proc/self/mountinfo) >${rootfs}/from-hook`;
      config.hooks = {
        createContainer: [{ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] }],
      };
    });
    const [state = '', mounts = ''] = (await box.ok('run')).split('\n');
    expect((JSON.parse(state) as OciState).status).toBe('creating');
    // The mounts of config.json are below the root file system by now.
    expect(Number(mounts)).toBeGreaterThanOrEqual(3);
  });
});
