import { describe, expect, test } from 'vitest';
import { stopSignalOf, volumePaths } from '../../../providers/namespace/process.ts';
import { containerProcess } from '../../../src/model/container-process.ts';
import type { ContainerDefaults } from '../../../src/model/image.ts';
import { type Isolation, isolationOf, type Machine } from '../../../src/model/project.ts';

const image = (more: Partial<ContainerDefaults> = {}): ContainerDefaults => ({
  env: [],
  exposedPorts: [],
  volumes: [],
  labels: {},
  ...more,
});

function machine(fields: Partial<Machine> = {}, isolation: Partial<Isolation> = {}): Machine {
  const { user: _, stopSignal: __, workdir: ___, ...quiet } = isolationOf({});
  return {
    name: 'a',
    env: {},
    shares: [],
    disks: [],
    image: {},
    ...fields,
    isolation: { ...quiet, init: false, ...isolation },
  } as unknown as Machine;
}

describe('what runs in a container of an image', () => {
  const both = image({ entrypoint: ['/entry', 'x'], cmd: ['run', 'y'] });

  test.each([
    ['nothing in the Tsfile', {}, ['/entry', 'x', 'run', 'y']],
    ['a command', { command: ['other'] }, ['/entry', 'x', 'other']],
    ['an entrypoint', { entrypoint: ['mine'] }, ['mine']],
    ['an entrypoint and a command', { entrypoint: ['mine'], command: ['other'] }, ['mine', 'other']],
    ['an empty entrypoint', { entrypoint: [] }, []],
    ['an empty entrypoint and a command', { entrypoint: [], command: ['other'] }, ['other']],
  ])('with %s', (_, fields, args) => {
    expect(containerProcess(machine(fields), both).args).toEqual(args);
  });

  test('is the init alone where there is no command, and the init in front where it is asked for', () => {
    expect(containerProcess(machine(), image())).toMatchObject({ args: [], init: true });
    expect(containerProcess(machine(), both).init).toBe(false);
    expect(containerProcess(machine({}, { init: true }), both).init).toBe(true);
  });

  test.each([
    [undefined, '0'],
    ['', '0'],
    ['web', 'web'],
    ['web:', 'web'],
    ['7:staff', '7:staff'],
  ])('runs as the user %j of the image: %s', (user, spec) => {
    expect(containerProcess(machine(), image(user === undefined ? {} : { user })).user).toBe(spec);
  });

  test('runs as the user of the Tsfile, with the group of that one only', () => {
    expect(containerProcess(machine({}, { user: { user: 0 } }), image({ user: 'web:web' })).user).toBe('0');
    expect(containerProcess(machine({}, { user: { user: 'a', group: 5 } }), image({ user: 'web' })).user).toBe('a:5');
  });

  test('has the variables of the image, and over them those of the Tsfile', () => {
    const defaults = image({ env: ['A=1', 'B=x=y', 'C=', '__proto__=odd'] });
    const { env } = containerProcess(machine({ env: { A: '2', D: '4' } }), defaults);
    expect(Object.entries(env)).toEqual([
      ['A', '2'],
      ['B', 'x=y'],
      ['C', ''],
      ['__proto__', 'odd'],
      ['D', '4'],
    ]);
  });

  test('starts in the folder of the Tsfile, of the image, or in the root', () => {
    expect(containerProcess(machine(), image()).workdir).toBe('/');
    expect(containerProcess(machine(), image({ workdir: '/srv' })).workdir).toBe('/srv');
    expect(containerProcess(machine(), image({ workdir: 'srv/../app' })).workdir).toBe('/app');
    expect(containerProcess(machine({}, { workdir: '/mine' }), image({ workdir: '/srv' })).workdir).toBe('/mine');
  });
});

describe('the signal that stops a container', () => {
  test.each([
    [undefined, 15],
    ['SIGQUIT', 3],
    ['QUIT', 3],
    ['3', 3],
    ['SIGRTMIN+3', 37],
  ])('is %s of its image: %i', (stopSignal, number) => {
    expect(stopSignalOf(machine(), image(stopSignal === undefined ? {} : { stopSignal }))).toBe(number);
  });

  test('is that of the Tsfile, whatever the image says', () => {
    expect(stopSignalOf(machine({}, { stopSignal: 2 }), image({ stopSignal: 'no signal' }))).toBe(2);
  });

  test('that is none is an error of the image', () => {
    expect(() => stopSignalOf(machine(), image({ stopSignal: 'SIGNONE' }))).toThrow(/'SIGNONE', which is no signal/);
  });
});

describe('the volumes of an image', () => {
  const paths = (volumes: readonly string[], fields: Partial<Machine> = {}, isolation: Partial<Isolation> = {}) =>
    volumePaths(machine(fields, isolation), image({ volumes }));

  test('are folders, each once, in one order', () => {
    expect(paths(['/var/lib/x/', '/data', '//data', '/a/../b', 'relative'])).toEqual([
      '/b',
      '/data',
      '/relative',
      '/var/lib/x',
    ]);
  });

  test('give way to what the Tsfile and the kernel have there', () => {
    const shares = [{ host: '/h', guest: '/data', readonly: false }];
    expect(
      paths(
        ['/data', '/cache', '/disk', '/kept', '/sys/fs/cgroup', '/proc'],
        { shares, disks: [{ name: 'd', sizeBytes: 1, mount: '/disk' }] },
        { tmpfs: [{ path: '/cache' }] },
      ),
    ).toEqual(['/kept']);
  });

  test('that are all of it are refused', () => {
    expect(() => paths(['/'])).toThrow(/a volume as a whole/);
    expect(() => paths(['/x/..'])).toThrow(/a volume as a whole/);
  });
});
