import { describe, expect, test } from 'vitest';
import {
  bringDevices,
  containerDevices,
  type DeviceSource,
  defaultDevices,
  deviceOwner,
  devLinks,
  makeDevices,
} from '../../../src/oci/devices.ts';
import type { OciDevice } from '../../../src/oci/spec.ts';
import { calls, expectOrder, lines, minimal } from './program-requests.ts';

const fuse: OciDevice = { path: '/dev/fuse', type: 'c', major: 10, minor: 229 };
const made = (device: Partial<OciDevice>, source: DeviceSource = 'make') =>
  lines(makeDevices([{ ...fuse, ...device }], source));
const node = (device: Partial<OciDevice>): unknown[] =>
  [...(calls(makeDevices([{ ...fuse, ...device }], 'make')).find(({ call }) => call === 'mknodat')?.args ?? [])].slice(
    1,
  );

describe('the devices of a container', () => {
  test('are those of the specification, with their numbers', () => {
    expect(defaultDevices.map(({ path, type, major, minor }) => `${path} ${type} ${major}:${minor}`)).toEqual([
      '/dev/null c 1:3',
      '/dev/zero c 1:5',
      '/dev/full c 1:7',
      '/dev/random c 1:8',
      '/dev/urandom c 1:9',
      '/dev/tty c 5:0',
    ]);
    for (const { fileMode, uid, gid } of defaultDevices) expect([fileMode, uid, gid]).toEqual([0o666, 0, 0]);
  });

  test('and its own, which may describe one of those differently, by whatever name', () => {
    const own: OciDevice = { path: '/dev/./null', type: 'c', major: 1, minor: 3, fileMode: 0o600 };
    const devices = containerDevices(minimal({ linux: { ...minimal().linux, devices: [own, fuse] } }));
    expect(devices).toHaveLength(7);
    expect(devices.slice(-2)).toEqual([own, fuse]);
    expect(devices.map(({ path }) => path)).not.toContain('/dev/null');
    expect(containerDevices(minimal())).toEqual(defaultDevices);
  });
});

describe('a node', () => {
  test('has type, mode and number as mknod(2) takes them', () => {
    expect(node({})).toEqual(['fuse', 0o020666, 10 * 256 + 229]);
    expect(node({ type: 'u', fileMode: 0o600 })).toEqual(['fuse', 0o020600, 10 * 256 + 229]);
    expect(node({ type: 'b', major: 8, minor: 1, fileMode: 0o640 })).toEqual(['fuse', 0o060640, 0x801]);
    expect(node({ type: 'p', path: '/run/fifo' })[1]).toBe(0o010666);
  });

  test('S18 with a number above eight bits keeps all of it: makedev(3)', () => {
    // The numbers that Python's os.makedev gives.
    expect(node({ major: 240, minor: 256 })[2]).toBe(0x10f000);
    expect(node({ major: 4095, minor: 0xfffff })[2]).toBe(0xffffffff);
    expect(node({ major: 259, minor: 300 })[2]).toBe(259 * 256 + (300 & 0xff) + (300 >> 8) * 2 ** 20);
  });

  test('gets its mode whatever the mask of the caller is, then its owner, not through a link; and it has to be there', () => {
    const text = made({ fileMode: 0o660, uid: 5, gid: 7 });
    expectOrder(
      text,
      /^if possible: mknodat fd:dir fuse/,
      /^ {2}openat2 fd:dir fuse .*# device \/dev\/fuse/,
      /^ {2}fchmodat -100 @file 432/,
      /^ {2}fchownat fd:file '' 5 7 4096/,
      /^else/,
    );
    expect(text[text.indexOf('else') + 1], 'what was not made has to be there').toMatch(/^ {2}openat2 fd:dir fuse /);
    expect(text.join('\n').replaceAll(/mkdirat .*\n/g, '')).not.toContain('(may)');
  });

  test('is made in folders of its own where there are none', () => {
    expect(made({ path: '/dev/a/b' }).filter((line) => line.startsWith('mkdirat'))).toEqual([
      'mkdirat fd:dir dev 493 (may)',
      'mkdirat fd:dir a 493 (may)',
    ]);
  });
});

describe('in a user namespace', () => {
  test('nodes are made outside, in a file system that nobody else sees, with owners of the container, and attached by descriptor', () => {
    const steps = bringDevices([fuse, { ...fuse, type: 'p' }], '/bundle/rootfs', () => ({
      uid: 100_005,
      gid: 100_007,
    }));
    expectOrder(
      lines(steps),
      /^mount tmpfs \/bundle\/rootfs tmpfs MS_NOSUID/,
      /^mknodat fd:dir 0 8630 2789/,
      /^fchownat fd:file .. 100005 100007/,
      /^open_tree fd:dir 0/,
      /^umount2 \/bundle\/rootfs 2/,
    );
    expect(lines(steps).join('\n')).not.toContain('fd:dir 1');
    expectOrder(made({}, 'bring'), /O_CREAT|openat2/, /^move_mount fd:device0/, /^close fd:device0/);
    expect(bringDevices([{ ...fuse, type: 'p' }], '/bundle/rootfs', () => ({ uid: 0, gid: 0 }))).toEqual([]);
  });

  test('owners are ids of the container, and have to be mapped', () => {
    const map = [
      { containerID: 0, hostID: 100_000, size: 10 },
      { containerID: 20, hostID: 500_000, size: 5 },
    ];
    const own = { ...fuse, uid: 21, gid: 3 };
    const lost = { ...fuse, uid: 15 };
    const config = minimal({ linux: { devices: [own, lost], uidMappings: map, gidMappings: map } });
    expect(deviceOwner(config, own)).toEqual({ uid: 500_001, gid: 100_003 });
    expect(() => deviceOwner(config, lost)).toThrow('linux.devices[1].uid: 15 is in no range of linux.uidMappings');
  });

  test('where none can be made outside, the node of the host is bound on a file, by descriptor', () => {
    const text = made({}, 'host');
    expect(text.at(-1)).toBe("mount /dev/fuse @dir '' MS_BIND 0 # device /dev/fuse");
    expect(text.join('\n')).not.toContain('mknodat');
  });

  test('a FIFO is made: anybody can', () => {
    expect(made({ type: 'p' }, 'host').join('\n')).toContain('mknodat');
  });
});

describe('links in /dev', () => {
  test('are those of the specification; what the image has stays, save for the terminals', () => {
    const text = lines(devLinks());
    expect(text.filter((line) => line.startsWith('symlinkat'))).toEqual([
      'symlinkat /proc/self/fd fd:dir fd (may)',
      'symlinkat /proc/self/fd/0 fd:dir stdin (may)',
      'symlinkat /proc/self/fd/1 fd:dir stdout (may)',
      'symlinkat /proc/self/fd/2 fd:dir stderr (may)',
      'symlinkat /proc/kcore fd:dir core (may)',
    ]);
    expect(text.slice(-2)).toEqual(['  unlinkat fd:dir ptmx 0 (may)', '  symlinkat pts/ptmx fd:dir ptmx (may)']);
    expectOrder(text, /^if present: openat2 -100 dev\/pts/, /^ {2}unlinkat fd:dir ptmx/);
  });
});
