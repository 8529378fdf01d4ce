import { describe, expect, test } from 'vitest';
import type { Descriptor } from '../../../../src/model/image.ts';
import {
  acceptable,
  candidates,
  formatPlatform,
  normalizePlatform,
  parsePlatform,
  runsOn,
} from '../../../../src/store/image/platform.ts';

describe('a platform', () => {
  test.each([
    ['linux/amd64', 'linux/amd64'],
    ['linux/x86_64', 'linux/amd64'],
    ['amd64', 'linux/amd64'],
    ['linux/amd64/v1', 'linux/amd64'],
    ['linux/amd64/v3', 'linux/amd64/v3'],
    ['linux/i386', 'linux/386'],
    ['linux/aarch64', 'linux/arm64'],
    ['linux/arm64/v8', 'linux/arm64'],
    ['linux/arm64/8', 'linux/arm64'],
    ['linux/arm', 'linux/arm/v7'],
    ['linux/armhf', 'linux/arm/v7'],
    ['linux/armel', 'linux/arm/v6'],
    ['linux/arm/6', 'linux/arm/v6'],
    ['LINUX/RISCV64', 'linux/riscv64'],
  ])('%s is %s', (text, expected) => {
    expect(formatPlatform(parsePlatform(text))).toBe(expected);
  });

  test.each(['', '/', 'linux/', 'a/b/c/d', 'linux/amd 64', 'linux/../x'])('%j is none', (text) => {
    expect(() => parsePlatform(text)).toThrow(expect.objectContaining({ code: 'TSV_USAGE' }));
  });

  test('of another system cannot be used', () => {
    expect(() => parsePlatform('windows/amd64')).toThrow(expect.objectContaining({ code: 'TSV_USAGE' }));
  });

  test.each([
    ['linux/amd64', 'linux/amd64 linux/386'],
    ['linux/amd64/v3', 'linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386'],
    ['linux/arm64', 'linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5'],
    ['linux/arm/v7', 'linux/arm/v7 linux/arm/v6 linux/arm/v5'],
    ['linux/arm/v6', 'linux/arm/v6 linux/arm/v5'],
    ['linux/386', 'linux/386'],
    ['linux/ppc64le', 'linux/ppc64le'],
  ])('%s takes %s, in this order', (wanted, expected) => {
    expect(acceptable(parsePlatform(wanted)).map(formatPlatform).join(' ')).toBe(expected);
  });

  test('runs what is for it, however that is written', () => {
    const amd64 = parsePlatform('linux/amd64');
    expect(runsOn({ os: 'linux', architecture: 'x86_64' }, amd64)).toBe(true);
    expect(runsOn({ os: 'linux', architecture: 'arm64' }, amd64)).toBe(false);
    expect(runsOn({ os: 'windows', architecture: 'amd64' }, amd64)).toBe(false);
  });
});

describe('of an index', () => {
  const entry = (text?: string): Descriptor => {
    const [os = '', architecture = '', variant] = (text ?? '').split('/');
    return {
      mediaType: 'x',
      digest: `sha256:${Buffer.from(text ?? '')
        .toString('hex')
        .padEnd(64, '0')}`,
      size: 1,
      ...(text === undefined
        ? {}
        : { platform: normalizePlatform({ os, architecture, ...(variant === undefined ? {} : { variant }) }) }),
    };
  };
  const choose = (texts: readonly (string | undefined)[], wanted: string) =>
    candidates(texts.map(entry), parsePlatform(wanted)).map(({ platform }) =>
      platform === undefined ? '?' : formatPlatform(platform),
    );

  test.each([
    [['linux/386', 'linux/amd64', 'unknown/unknown'], 'amd64', ['linux/amd64', 'linux/386']],
    [['linux/arm/v5', 'linux/arm/v7', 'linux/arm64/v8'], 'arm/v7', ['linux/arm/v7', 'linux/arm/v5']],
    [['linux/arm/v6', 'linux/arm/v7'], 'linux/arm/v6', ['linux/arm/v6']],
    [['linux/arm64'], 'linux/amd64', []],
    [['windows/amd64', 'linux/s390x'], 'amd64', []],
    [[undefined, 'linux/arm64'], 'amd64', ['?']],
    [[undefined, 'linux/amd64'], 'amd64', ['linux/amd64']],
    [['unknown/unknown'], 'amd64', []],
  ])('%j gives %s %j', (texts, wanted, expected) => {
    expect(choose(texts, wanted)).toEqual(expected);
  });
});
