import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readSeccompProfile } from '../../../providers/namespace/profile.ts';

let file: string;
beforeAll(() => {
  file = join(mkdtempSync(join(tmpdir(), 'profile-')), 'profile.json');
});
afterAll(() => rmSync(join(file, '..'), { recursive: true, force: true }));

function read(profile: unknown, capabilities: readonly string[] = [], kernel = '6.1.0-18-amd64') {
  writeFileSync(file, typeof profile === 'string' ? profile : JSON.stringify(profile));
  return readSeccompProfile(file, capabilities, kernel);
}
const allow = (name: string, more: object = {}) => ({ names: [name], action: 'SCMP_ACT_ALLOW', ...more });
const names = (rules: readonly object[], capabilities: readonly string[] = [], kernel?: string): string[] =>
  read({ defaultAction: 'SCMP_ACT_ERRNO', syscalls: rules }, capabilities, kernel).syscalls?.flatMap(
    (rule) => rule.names,
  ) ?? [];

describe('a profile', () => {
  test('of the specification is taken as it is', () => {
    const profile = {
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      architectures: ['SCMP_ARCH_X86_64'],
      flags: ['SECCOMP_FILTER_FLAG_LOG'],
      syscalls: [{ ...allow('personality'), errnoRet: 1, args: [{ index: 0, value: 8, op: 'SCMP_CMP_EQ' }] }],
    };
    expect(read(profile)).toEqual(profile);
  });

  test('without rules has none', () => {
    expect(read({ defaultAction: 'SCMP_ACT_LOG' })).toEqual({ defaultAction: 'SCMP_ACT_LOG', syscalls: [] });
  });

  test("Docker's architectures are those of this machine", () => {
    const archMap = [
      { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: ['SCMP_ARCH_ARM'] },
      { architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86', 'SCMP_ARCH_X32'] },
    ];
    const made = read({ defaultAction: 'SCMP_ACT_ERRNO', archMap });
    expect(made.architectures).toEqual(['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32']);
    expect(made).not.toHaveProperty('archMap');
  });

  test("Docker's older rules have one name, and null for nothing", () => {
    expect(names([{ name: 'read', names: null, action: 'SCMP_ACT_ALLOW', args: null }])).toEqual(['read']);
  });

  test.each([
    ['{', 'JSON'],
    ['null', 'no defaultAction'],
    ['[]', 'no defaultAction'],
    ['{"defaultAction": 1}', 'no defaultAction'],
  ])('%s is none', (text, message) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: 'TSV_SECCOMP', message: expect.stringContaining(message) }),
    );
  });

  test('that is not there is said so', () => {
    expect(() => readSeccompProfile('/no/such', [], '6.1')).toThrow(
      expect.objectContaining({ code: 'TSV_SECCOMP', message: expect.stringContaining('ENOENT') }),
    );
  });

  // A TypeError of ours is no message about their file.
  test.each([
    { syscalls: null },
    { syscalls: [allow('read', { includes: null })] },
    { syscalls: [allow('read', { excludes: { caps: null } })] },
  ])('null stands for nothing, as Go writes it: %j', (change) => {
    expect(read({ defaultAction: 'SCMP_ACT_ERRNO', ...change }).defaultAction).toBe('SCMP_ACT_ERRNO');
  });
});

describe("conditions of Docker's rules", () => {
  test('includes.caps: all of them are there', () => {
    const rules = [allow('bpf', { includes: { caps: ['CAP_BPF', 'CAP_PERFMON'] } })];
    expect(names(rules)).toEqual([]);
    expect(names(rules, ['CAP_BPF'])).toEqual([]);
    expect(names(rules, ['CAP_BPF', 'CAP_PERFMON'])).toEqual(['bpf']);
  });

  test('excludes.caps: one of them is enough', () => {
    const rules = [allow('clone', { excludes: { caps: ['CAP_SYS_ADMIN', 'CAP_BPF'] } })];
    expect(names(rules)).toEqual(['clone']);
    expect(names(rules, ['CAP_BPF'])).toEqual([]);
  });

  test('architectures: this one and those that run on it', () => {
    expect(
      names([
        allow('a', { includes: { arches: ['ppc64le', 'amd64'] } }),
        allow('b', { includes: { arches: ['s390'] } }),
      ]),
    ).toEqual(['a']);
    expect(
      names([allow('a', { excludes: { arches: ['s390'] } }), allow('b', { excludes: { arches: ['amd64'] } })]),
    ).toEqual(['a']);
  });

  test.each([
    ['4.8', '6.1.0-18-amd64', true],
    ['6.1', '6.1.0-18-amd64', true],
    ['6.2', '6.1.0-18-amd64', false],
    ['4.18', '4.8.0', false],
    ['4.8', '4.18.0', true],
    ['5.0', '4.19', false],
  ])('minKernel %s on %s: %s', (minKernel, kernel, there) => {
    expect(names([allow('ptrace', { includes: { minKernel } })], [], kernel)).toEqual(there ? ['ptrace'] : []);
  });

  test('all of them together', () => {
    const rule = allow('x', { includes: { caps: ['CAP_BPF'], minKernel: '7.0' } });
    expect(names([rule], ['CAP_BPF'])).toEqual([]);
    expect(names([rule], ['CAP_BPF'], '7.1')).toEqual(['x']);
  });
});
