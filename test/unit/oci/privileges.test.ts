import { describe, expect, test } from 'vitest';
import { becomeUser, commandFiles, defaultPath, execute, reduce, requireCommand } from '../../../src/oci/privileges.ts';
import type { OciCapabilities, OciProcess } from '../../../src/oci/spec.ts';
import { allCapabilities, calls, expectOrder, lines } from './program-requests.ts';

const options = (process: Partial<OciProcess> = {}, bounding = allCapabilities) => ({
  process: { args: ['x'], cwd: '/', ...process },
  seccomp: { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_X86_64'] },
  lastCapability: 40,
  bounding,
  groups: 'must' as const,
});
const reduced = (process: Partial<OciProcess> = {}) => lines(reduce(options(process)));

/** The masks that capset(2) is given: effective, permitted, inheritable. */
function capset(capabilities: OciCapabilities, bounding = allCapabilities): bigint[] {
  const step = calls(reduce(options({ capabilities }, bounding))).find(({ call }) => call === 'capset');
  const data = step?.args[1];
  if (typeof data !== 'object' || !('bytes' in data)) return expect.fail('no capset');
  const buffer = Buffer.from(data.bytes);
  return [0, 4, 8].map((at) => BigInt(buffer.readUInt32LE(at)) | (BigInt(buffer.readUInt32LE(at + 12)) << 32n));
}
const bit = (number: number): bigint => 1n << BigInt(number);
const raised = (capabilities: OciCapabilities) =>
  lines(reduce(options({ capabilities }))).flatMap((line) => /^prctl 47 2 (\d+) 0 0/.exec(line)?.[1] ?? []);

describe('becoming a user', () => {
  test('drops the groups of the caller first, for nobody else can; then group, then user, all three of each', () => {
    expect(lines(becomeUser({ uid: 1000, gid: 7, groups: [1, 4294967294] }))).toEqual([
      'setgroups 2 <8 bytes>',
      'setresgid 7 7 7',
      'setresuid 1000 1000 1000',
    ]);
    const list = becomeUser({ uid: 0, gid: 0, groups: [1, 4294967294] })[0];
    const bytes = list !== undefined && 'args' in list ? list.args[1] : undefined;
    expect(bytes).toEqual({ bytes: Buffer.from([1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]) });
  });

  test('no error of it is passed over, save for groups where that is asked for', () => {
    expect(lines(becomeUser({ uid: 1, gid: 1, groups: [] })).join('\n')).not.toContain('(may)');
    expect(lines(becomeUser({ uid: 1, gid: 1, groups: [] }, 'may'))[0]).toBe('setgroups 0 <4 bytes> (may)');
  });
});

describe('the order in which rights are given up', () => {
  test('with no new privileges: the filter last of all', () => {
    expectOrder(
      reduced({ noNewPrivileges: true }),
      /^openat2 .*# working directory/,
      /^prctl 24 /,
      /^prctl 8 1 /,
      /^setgroups/,
      /^setresgid/,
      /^setresuid/,
      /^prctl 8 0 /,
      /^capset/,
      /^prctl 38 1 /,
      /^seccomp/,
    );
  });

  test('without it a filter needs CAP_SYS_ADMIN: it comes before that is dropped', () => {
    const text = reduced();
    expectOrder(text, /^seccomp/, /^prctl 24 /, /^capset/);
    expect(text.join('\n')).not.toContain('prctl 38');
  });

  test('capabilities survive the change of the user, and only that', () => {
    expectOrder(reduced(), /^prctl 8 1 0 0 0/, /^setresuid/, /^prctl 8 0 0 0 0/, /^capset/);
  });

  test('no error is passed over but that of a kernel without keyrings', () => {
    expect(reduced({ noNewPrivileges: true }).filter((line) => line.includes('(may)'))).toEqual([
      'keyctl 1 0 (may) # a session keyring of its own',
    ]);
  });
});

describe('S13 capabilities', () => {
  test('that are not described are none: everything is dropped', () => {
    expect(capset({})).toEqual([0n, 0n, 0n]);
    expect(reduced().filter((line) => line.includes('# drop'))).toHaveLength(41);
  });

  test('each set is its own', () => {
    const sets = { permitted: ['CAP_CHOWN', 'CAP_KILL', 'CAP_BPF'], effective: ['CAP_KILL'], inheritable: ['CAP_BPF'] };
    expect(capset(sets)).toEqual([bit(5), bit(0) | bit(5) | bit(39), bit(39)]);
  });

  test('what is effective is permitted', () => {
    expect(capset({ permitted: ['CAP_CHOWN'], effective: ['CAP_CHOWN', 'CAP_KILL'] })).toEqual([bit(0), bit(0), 0n]);
  });

  test('what the caller cannot pass on is left out of every set', () => {
    const names = ['CAP_CHOWN', 'CAP_SYS_RESOURCE'];
    expect(capset({ permitted: names, effective: names, inheritable: names }, allCapabilities & ~bit(24))).toEqual([
      bit(0),
      bit(0),
      bit(0),
    ]);
  });

  test('ambient ones are raised after the others are set', () => {
    const names = ['CAP_KILL', 'CAP_BPF'];
    const all = { bounding: names, permitted: names, inheritable: names, effective: names, ambient: names };
    expect(raised(all)).toEqual(['5', '39']);
    expectOrder(lines(reduce(options({ capabilities: all }))), /^capset/, /^prctl 47 2/);
  });

  test('an ambient one that is not permitted and inheritable is left out, as the kernel refuses it: `runc spec` has such', () => {
    expect(raised({ permitted: ['CAP_KILL'], ambient: ['CAP_KILL'] })).toEqual([]);
    expect(raised({ inheritable: ['CAP_KILL'], ambient: ['CAP_KILL'] })).toEqual([]);
  });

  test('the bounding set is what is named, up to the last that the kernel knows', () => {
    const text = lines(reduce({ ...options({ capabilities: { bounding: ['CAP_CHOWN'] } }), lastCapability: 42 }));
    const dropped = text.flatMap((line) => /^prctl 24 (\d+) /.exec(line)?.[1] ?? []).map(Number);
    expect(dropped).toEqual(Array.from({ length: 42 }, (_, i) => i + 1));
  });
});

describe('a command', () => {
  test.each([
    [['/bin/sh'], ['PATH=/x'], ['/bin/sh']],
    [['./run'], ['PATH=/x'], ['./run']],
    [['sh'], ['PATH=/x:/y'], ['/x/sh', '/y/sh']],
    [['sh'], ['PATH=:/y'], ['./sh', '/y/sh']],
    [['sh'], [], defaultPath.split(':').map((folder) => `${folder}/sh`)],
  ])('%j with %j can be %j', (argv, env, files) => {
    expect(commandFiles(argv, env)).toEqual(files);
  });

  test('is executed with its arguments and environment; the last failure is the one that counts', () => {
    expect(lines(execute(['sh', '-c', 'x'], ['PATH=/a:/b', 'A=1']))).toEqual([
      'execve /a/sh [sh -c x] [PATH=/a:/b A=1] (may) # the command',
      'execve /b/sh [sh -c x] [PATH=/a:/b A=1] # the command',
    ]);
  });

  test('is looked for in the same files before', () => {
    expect(lines(requireCommand(['sh'], ['PATH=/a:/b:/c']))).toEqual([
      'if possible: faccessat -100 /a/sh 1 # the command',
      'else',
      '  if possible: faccessat -100 /b/sh 1 # the command',
      '  else',
      '    faccessat -100 /c/sh 1 # the command',
    ]);
    expect(lines(requireCommand(['/a'], []))).toEqual(['faccessat -100 /a 1 # the command']);
  });
});
