import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cgroupsNamed, type Draft, ociHost, useRootfs } from '../../support/bundle.ts';
import { rootTest } from '../../support/root.ts';

useRootfs();

const cgroups = rootTest('a user may make no cgroups here');

describe('a bad bundle', () => {
  type Change = (config: Draft & Record<string, unknown>) => void;
  const wrong: Record<string, [Change, string]> = {
    'no process.args': [(config) => Object.assign(config.process, { args: undefined }), 'process.args'],
    'a number for a text': [(config) => Object.assign(config, { hostname: 5 }), 'hostname'],
    'a newer specification': [(config) => Object.assign(config, { ociVersion: '2.0.0' }), 'ociVersion'],
    'no version': [(config) => Object.assign(config, { ociVersion: undefined }), 'ociVersion'],
    'no root': [(config) => Object.assign(config, { root: undefined }), 'root'],
    'a root file system that is not there': [(config) => Object.assign(config, { root: { path: 'none' } }), 'root'],
    'an unknown namespace': [
      (config) => Object.assign(config.linux, { namespaces: [{ type: 'disk' }] }),
      'linux.namespaces[0].type',
    ],
    'a namespace twice': [(config) => config.linux.namespaces.push({ type: 'pid' }), 'linux.namespaces'],
    'a namespace that is not there': [
      (config) => {
        for (const namespace of config.linux.namespaces) if (namespace.type === 'network') namespace.path = '/none';
      },
      'linux.namespaces[1].path',
    ],
    'mappings that overlap': [
      (config) => {
        config.linux.namespaces = [{ type: 'user' }, { type: 'mount' }];
        config.linux.uidMappings = [
          { containerID: 0, hostID: 1000, size: 10 },
          { containerID: 5, hostID: 5000, size: 10 },
        ];
      },
      'linux.uidMappings',
    ],
    'an unknown rlimit': [
      (config) => Object.assign(config.process, { rlimits: [{ type: 'RLIMIT_FUN', soft: 1, hard: 1 }] }),
      'process.rlimits[0].type',
    ],
    'a relative working folder': [(config) => Object.assign(config.process, { cwd: 'tmp' }), 'process.cwd'],
    'a relative hook': [
      (config) => Object.assign(config, { hooks: { prestart: [{ path: 'true' }] } }),
      'hooks.prestart[0].path',
    ],
    'a sysctl of the host': [
      (config) => Object.assign(config.linux, { sysctl: { 'vm.swappiness': '1' } }),
      'vm.swappiness',
    ],
    'a sysctl of a shared namespace': [
      (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'network');
        config.linux.sysctl = { 'net.ipv4.ip_forward': '1' };
      },
      'net.ipv4.ip_forward',
    ],
    'an unknown seccomp action': [
      (config) => Object.assign(config.linux, { seccomp: { defaultAction: 'SCMP_ACT_FUN' } }),
      'linux.seccomp.defaultAction',
    ],
    'a hostname without a namespace for it': [
      (config) => {
        config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'uts');
      },
      'hostname',
    ],
    'a mount from nowhere': [
      (config) => config.mounts.push({ destination: '/data', type: 'bind', source: '/nonsense', options: ['bind'] }),
      '/nonsense',
    ],
    'a file system that there is not': [
      (config) => config.mounts.push({ destination: '/data', type: 'funfs', source: 'x' }),
      'funfs',
    ],
    'a memory limit as a text': [
      (config) => Object.assign(config.linux, { resources: { memory: { limit: '1G' } } }),
      'linux.resources.memory.limit',
    ],
  };

  test.each(Object.entries(wrong))('with %s is one error, and leaves nothing', async (_, [change, path]) => {
    const box = ociHost().container('true', (config) => void change(config as Draft & Record<string, unknown>));
    for (const command of ['create', 'run']) {
      const { code, stdout, stderr } = await box.call(command);
      expect(code, command).toBe(1);
      expect(stderr).toContain(path);
      expect(stderr.trim().split('\n')).toHaveLength(1);
      expect(stdout).toBe('');
      await box.host.expectNothingLeft();
    }
  });

  test('all mistakes are said at once, each with its place', async () => {
    const box = ociHost().container('true', (config) => {
      Object.assign(config.process, { cwd: 'tmp', args: [] });
      Object.assign(config.linux, { namespaces: [{ type: 'disk' }] });
    });
    const { stderr } = await box.call('run');
    for (const path of ['process.cwd', 'process.args', 'linux.namespaces[0].type']) expect(stderr).toContain(path);
  });

  test.each([
    ['is missing', undefined],
    ['is no JSON', '{"ociVersion": '],
    ['is a list', '[]'],
    ['is empty', ''],
  ])('whose config.json %s is one error, and leaves nothing', async (_, text) => {
    const box = ociHost().container();
    if (text === undefined) rmSync(join(box.bundle, 'config.json'));
    else box.write(text);
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('config.json');
    expect(stderr.trim().split('\n')).toHaveLength(1);
    await box.host.expectNothingLeft();
  });

  test('that is not there is one error', async () => {
    const host = ociHost();
    const { code, stderr } = await host.oci(['run', '--bundle', join(host.dir, 'none'), 'id']);
    expect(code).toBe(1);
    expect(stderr).toContain(join(host.dir, 'none'));
    await host.expectNothingLeft();
  });

  test.each(['../x', '.x', 'a/b', '', 'a b'])('an id such as "%s" is refused', async (id) => {
    const host = ociHost();
    const box = host.container();
    for (const args of [
      ['run', '--bundle', box.bundle, id],
      ['state', id],
      ['delete', '--force', id],
    ])
      expect((await host.oci(args)).code, args[0]).not.toBe(0);
    await host.expectNothingLeft();
  });

  test('unknown keys are passed over', async () => {
    const box = ociHost().container('echo fine', (config) => {
      Object.assign(config, { vm: { hypervisor: {} }, 'x-own': 1 });
      Object.assign(config.process, { 'x-own': 1 });
    });
    expect(await box.ok('run')).toBe('fine\n');
  });

  cgroups('a resource that cannot be set leaves nothing', async () => {
    const box = ociHost().container('true', (config) => {
      config.linux.resources = { cpu: { cpus: '4000' } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('linux.resources.cpu.cpus');
    await box.host.expectNothingLeft();
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  test('systemd’s cgroups are refused with a reason', async () => {
    const box = ociHost().container('true');
    const { code, stderr } = await box.host.oci(['--systemd-cgroup', ...box.args('run')]);
    expect(code).toBe(1);
    expect(stderr).toContain('systemd');
    await box.host.expectNothingLeft();
  });
});
