import { describe, expect, test } from 'vitest';
import type { Digest } from '../../../../src/model/image.ts';
import type { NamedImage } from '../../../../src/store/image/names.ts';
import type { Inventory, Parts } from '../../../../src/store/upkeep/inventory.ts';
import { planImageRemoval, planRemoval, type Removal } from '../../../../src/store/upkeep/plan.ts';
import type { Uses } from '../../../../src/store/upkeep/uses.ts';

const digest = (digits: string): Digest => `sha256:${digits.padEnd(64, '0')}`;
/** Image aN has a blob bN and a layer cN of its own, and shares b0 and c0. */
const images = ['1', '2', '3'];
const partsOf = (of: Digest): Parts | undefined => {
  const number = images.find((digits) => digest(`a${digits}`) === of);
  return number === undefined
    ? undefined
    : { blobs: [of, digest(`b${number}`), digest('b0')], diffIds: [digest(`c${number}`), digest('c0')] };
};
const named = (reference: string | undefined, number: string, forMachines = false): NamedImage => ({
  ...(reference === undefined ? {} : { reference }),
  descriptor: { mediaType: 'x', digest: digest(`a${number}`), size: 1 },
  forMachines,
});
const layer = (digits: string, more: Partial<Inventory['layers'][number]> = {}): Inventory['layers'][number] => ({
  diffId: digest(digits),
  path: `/layers/${digits}`,
  bytes: 10,
  current: true,
  own: true,
  complete: true,
  ...more,
});
const box = { name: 'debian-12', kind: 'vm', digest: 'd1', path: '/boxes/d1', lock: '/l', bytes: 5 } as const;
const inventory = (names: readonly NamedImage[], more: Partial<Inventory> = {}): Inventory => ({
  names,
  blobs: ['a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'b3'].map((digits) => ({ digest: digest(digits), bytes: 1 })),
  layers: ['c0', 'c1', 'c2', 'c3'].map((digits) => layer(digits)),
  partials: [{ name: 'p', bytes: 3, changedAt: 0 }],
  leftovers: [],
  boxes: [box],
  templates: [],
  cache: [],
  mounted: new Set(),
  ...more,
});
const none: Uses = { machines: [], references: new Set(), pinned: new Set(), boxes: new Set(), unreadable: [] };
const use = (number: string, running = false) => ({
  machine: 'web',
  projectDir: '/p',
  running,
  digest: digest(`a${number}`),
});

const text = ({ names, blobs, layers, boxes }: Removal): string =>
  [
    ...names.map(({ reference, descriptor }) => reference ?? descriptor.digest.slice(7, 9)),
    ...blobs.map((blob) => blob.digest.slice(7, 9)),
    ...layers.map(({ diffId }) => diffId.slice(7, 9)),
    ...boxes.map(({ digest: own }) => own),
  ].join(' ');
const plan = (names: readonly NamedImage[], uses: Partial<Uses> = {}, all = false): string =>
  text(planRemoval(inventory(names), { ...none, ...uses }, partsOf, { all }));

describe('a template', () => {
  const day = 86_400_000;
  const template = (more: Partial<Inventory['templates'][number]> = {}): Inventory['templates'][number] => ({
    path: '/templates/t1',
    lock: '/l',
    boxDigest: 'd1',
    usedAt: 100 * day,
    bytes: 7,
    whole: true,
    ...more,
  });
  const removed = (
    entry: Inventory['templates'][number],
    options: { all?: boolean; used?: boolean; now?: number } = {},
  ) =>
    planRemoval(
      inventory([], { templates: [entry] }),
      { ...none, machines: options.used === true ? [{ ...use('1'), beneath: [entry.path] }] : [] },
      partsOf,
      { all: options.all === true, now: options.now ?? 101 * day },
    ).templates.length > 0;

  test('stays while its box is there and machines start from it', () => {
    expect(removed(template())).toBe(false);
  });

  test('goes when nothing started from it for a month, with its box, when it is damaged, or when all goes', () => {
    expect(removed(template(), { now: 131 * day })).toBe(true);
    expect(removed(template({ boxDigest: 'gone' }))).toBe(true);
    expect(removed(template({ whole: false }))).toBe(true);
    expect(removed(template(), { all: true })).toBe(true);
  });

  test('stays in any case while the disk of a machine lies over its own', () => {
    for (const entry of [template(), template({ boxDigest: 'gone' }), template({ whole: false })])
      expect(removed(entry, { all: true, used: true, now: 500 * day })).toBe(false);
  });
});

describe('what nobody uses', () => {
  test('is all but what has a name; with all, all but what a project uses', () => {
    const names = [named('one', '1'), named('two', '2')];
    expect(plan(names)).toBe('a3 b3 c3');
    expect(plan(names, {}, true)).toBe('one two a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3 d1');
    expect(plan(names, { references: new Set(['one']), boxes: new Set(['debian-12']) }, true)).toBe(
      'two a2 a3 b2 b3 c2 c3',
    );
  });

  test('is not what a machine was made from, whether it has a name or not', () => {
    expect(plan([], { machines: [use('2')] }, true)).toBe('a1 a3 b1 b3 c1 c3 d1');
    expect(plan([named('two', '2', true)], { machines: [use('2')] })).toBe('a1 a3 b1 b3 c1 c3');
    expect(plan([], { machines: [{ ...use('1'), digest: 'd1' }] }, true)).toBe('a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3');
  });

  test('is not what a lock file pins, by manifest or by index', () => {
    expect(plan([], { pinned: new Set([digest('a1')]) })).toBe('a2 a3 b2 b3 c2 c3');
    const chosen = { ...named('one', '1', true), source: digest('e1') };
    expect(plan([chosen], { pinned: new Set([digest('e1')]) })).toBe('a2 a3 b2 b3 c2 c3');
  });

  test('is what came for machines that are gone, unless a project cannot be read', () => {
    const names = [named('one', '1', true), named(undefined, '2')];
    expect(plan(names)).toBe('one a2 a1 a2 a3 b0 b1 b2 b3 c0 c1 c2 c3');
    expect(plan(names, { unreadable: [{ projectDir: '/p', why: 'x' }] })).toBe('a2 a2 a3 b2 b3 c2 c3');
    expect(plan(names, { references: new Set(['one']) })).toBe('a2 a2 a3 b2 b3 c2 c3');
  });

  test('is a layer for another user map, if it is ours and no running machine has it', () => {
    const layers = [
      layer('c1'),
      layer('c1', { current: false, path: '/old/c1' }),
      layer('c1', { current: false, own: false, path: '/root/c1' }),
    ];
    const of = (uses: Partial<Uses>) =>
      planRemoval(inventory([named('one', '1')], { layers }), { ...none, ...uses }, partsOf, { all: false }).layers.map(
        ({ path }) => path,
      );
    expect(of({})).toEqual(['/old/c1']);
    expect(of({ machines: [use('1')] })).toEqual(['/old/c1']);
    expect(of({ machines: [use('1', true)] })).toEqual([]);
  });

  test('is not what is mounted, even if no project is known to use it', () => {
    const mounted = new Set(['c1/fs', 'd1/rootfs']);
    const removal = planRemoval(inventory([], { mounted }), none, partsOf, { all: true });
    expect(text(removal)).toBe('a1 a2 a3 b0 b1 b2 b3 c0 c2 c3');
  });

  test('cannot be told when the image of a running machine is damaged', () => {
    expect(() => plan([], { machines: [use('9', true)] })).toThrow(expect.objectContaining({ code: 'TSV_STORE' }));
    expect(plan([], { machines: [use('9')] })).toContain('a1');
  });
});

describe('with a name goes', () => {
  const names = [named('one', '1'), named('also-one', '1'), named('two', '2')];
  const remove = (which: readonly number[], machines: Uses['machines'] = []) =>
    text(
      planImageRemoval(
        inventory(names),
        names.filter((_, index) => which.includes(index)),
        machines,
        partsOf,
      ),
    );

  test('what no other name and no machine needs', () => {
    expect(remove([0])).toBe('one');
    expect(remove([0, 1])).toBe('one also-one a1 b1 c1');
    expect(remove([0, 1], [use('1')])).toBe('one also-one');
    expect(remove([0, 1, 2])).toBe('one also-one two a1 a2 b0 b1 b2 c0 c1 c2');
  });
});
