import { describe, expect, test } from 'vitest';
import { headlines, load, machine } from './support.ts';

describe('the owner of a share', () => {
  const share = (more: string) => `version: 1\nmachines:\n  a: { image: d, share: [{ host: ., guest: /s${more} }] }\n`;

  test('is who is said, by number', async () => {
    expect(machine(await load(share(', uid: 1000')), 'a').shares[0]).toMatchObject({ uid: 1000 });
    expect(machine(await load(share(', uid: 0, gid: 33')), 'a').shares[0]).toMatchObject({ uid: 0, gid: 33 });
    expect(Object.keys(machine(await load(share('')), 'a').shares[0] ?? {})).toEqual(['host', 'guest', 'readonly']);
  });

  test.each([
    [', uid: www-data', '`uid` must be a whole number'],
    [', gid: 65536', '`gid` must be at most 65535'],
    [', uid: -1', '`uid` must be at least 0'],
  ])('is no other: %s', async (more, said) => {
    expect((await headlines(share(more)))[0]).toContain(said);
  });
});
