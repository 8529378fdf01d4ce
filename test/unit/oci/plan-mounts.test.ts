import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { rootfsFolder } from '../../../src/oci/plan-mounts.ts';
import { MS } from '../../../src/sys/flags.ts';
import { here, minimal, plan, thisFile } from './program-requests.ts';

describe('a bind', () => {
  test('has an absolute source: a relative one begins at the bundle', () => {
    expect(plan([{ destination: 'x/../y', type: 'bind', source: 'program-requests.ts' }])).toMatchObject([
      { at: 'mounts[0]', kind: 'bind', destination: '/y', source: thisFile, folder: false },
    ]);
    expect(plan([{ destination: '/y', options: ['rbind'], source: here }])).toMatchObject([
      { source: here, folder: true },
    ]);
  });

  test('of nothing is refused with its place', () => {
    const mounts = [
      { destination: '/a', type: 'tmpfs' },
      { destination: '/b', type: 'bind', source: '/no/such' },
    ];
    expect(() => plan(mounts)).toThrow(
      expect.objectContaining({ code: 'TSV_BUNDLE', message: 'mounts[1].source: /no/such: not there' }),
    );
  });

  test('has the id map that it is given, and no other', () => {
    const bind = { destination: '/y', type: 'bind', source: here };
    expect(plan([bind], { idmap: () => 'idmap0' })).toMatchObject([{ idmap: 'idmap0', idmapOptional: false }]);
    expect(plan([bind])[0]).not.toHaveProperty('idmap');
  });
});

describe('other mounts', () => {
  test.each([
    { options: ['idmap'] },
    { options: ['ridmap'] },
    { uidMappings: [{ containerID: 0, hostID: 1, size: 1 }] },
  ])('cannot have their ids mapped: %j', (change) => {
    expect(() => plan([{ destination: '/a', type: 'tmpfs', ...change }])).toThrow('mounts[0].uidMappings: only a bind');
  });

  test('a remount is one even if it is of a bind', () => {
    expect(plan([{ destination: '/a', type: 'bind', options: ['bind', 'remount', 'ro'] }])).toMatchObject([
      { kind: 'remount', options: { flags: MS.BIND | MS.REMOUNT | MS.RDONLY } },
    ]);
  });

  test('without a source are called by their type', () => {
    expect(plan([{ destination: '/a', type: 'mqueue' }])).toMatchObject([{ type: 'mqueue', source: 'mqueue' }]);
  });
});

describe('the mode of a tmpfs', () => {
  let rootfs: string;
  beforeAll(() => {
    rootfs = mkdtempSync(join(tmpdir(), 'rootfs-'));
    for (const [name, mode] of [
      ['tmp', 0o1777],
      ['private', 0o710],
    ] as const) {
      mkdirSync(join(rootfs, name));
      chmodSync(join(rootfs, name), mode);
    }
    symlinkSync('/private', join(rootfs, 'link'));
  });
  afterAll(() => rmSync(rootfs, { recursive: true, force: true }));
  const data = (destination: string, ...options: string[]) =>
    plan([{ destination, type: 'tmpfs', options }], { rootfs }).map((mount) =>
      'options' in mount ? mount.options.data : [],
    );

  test('is that of the folder which it covers, unless it is given', () => {
    expect(data('/tmp', 'size=1k')).toEqual([['size=1k', 'mode=1777']]);
    expect(data('/private')).toEqual([['mode=710']]);
    expect(data('/private', 'mode=700')).toEqual([['mode=700']]);
    expect(data('/absent')).toEqual([[]]);
  });

  // The link is the image's: /private of the host, or nothing there, is not what it means.
  test('is that of the folder behind a link of the image, inside it', () => {
    expect(data('/link')).toEqual([['mode=710']]);
  });
});

test('the root file system is below the bundle, unless its path is absolute', () => {
  expect(rootfsFolder(minimal(), '/b')).toBe('/b/rootfs');
  expect(rootfsFolder(minimal({ root: { path: '/elsewhere' } }), '/b')).toBe('/elsewhere');
  expect(rootfsFolder(minimal({ root: { path: '../r' } }), '/b/c')).toBe('/b/r');
});
