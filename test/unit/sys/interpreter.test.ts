import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { dataAddress, elfExecutable } from '../../../src/sys/elf.ts';
import { layOut } from '../../../src/sys/image.ts';
import { interpreter } from '../../../src/sys/interpreter.ts';
import type { Step } from '../../../src/sys/program.ts';
import { assemble, hasAssembler } from '../../support/assemble.ts';

const source = join(import.meta.dirname, '..', '..', '..', 'src', 'sys', 'interpreter.s');

describe('the interpreter', () => {
  test.skipIf(!hasAssembler)('is what its source says (skipped where no assembler is installed)', () => {
    expect(assemble(source)).toBe(interpreter.toString('hex'));
  });
});

describe('an image', () => {
  const numbers: Readonly<Record<string, number>> = { status: 10, go: 11 };
  const lay = (steps: readonly Step[], base = dataAddress) => layOut(steps, base, (name) => numbers[name] ?? -1);
  const quad = (image: ReturnType<typeof lay>, address: bigint): bigint =>
    image.bytes.readBigUInt64LE(Number(address - dataAddress));

  test('is the same for the same program', () => {
    const steps: Step[] = [{ call: 'chdir', args: ['/tmp'] }, { report: 'unshared' }];
    expect(lay(steps).bytes.equals(lay(steps).bytes)).toBe(true);
  });

  test('holds number, arguments and mode of each step, strings by address', () => {
    const image = lay([
      { call: 'setns', args: [{ fd: 'go' }, 5], mode: 'may' },
      { call: 'chdir', args: ['/tmp'] },
    ]);
    expect([0n, 8n, 16n, 56n].map((at) => quad(image, image.start + at))).toEqual([308n, 11n, 5n, 1n]);
    const path = Number(quad(image, image.start + 96n) - dataAddress);
    expect(image.bytes.subarray(path, path + 5).toString('latin1')).toBe('/tmp\0');
  });

  test('keeps addresses right when it outgrows its first buffer', () => {
    const long = 'x'.repeat(40_000);
    const image = lay([
      { call: 'chdir', args: [long] },
      { call: 'chdir', args: [`${long}y`] },
    ]);
    const path = Number(quad(image, image.start + 96n) - dataAddress);
    expect(image.bytes.subarray(path, path + 40_002).toString('latin1')).toBe(`${long}y\0`);
  });

  test('leaves out what depends on a step that failed, nested too', () => {
    const inner: Step = {
      try: { call: 'chdir', args: ['b'] },
      unless: 'absent',
      steps: [{ call: 'setsid', args: [] }],
    };
    const image = lay([{ try: { call: 'chdir', args: ['a'] }, unless: 'error', steps: [inner] }]);
    const targets = [0n, 88n].map((at) => quad(image, image.start + at + 72n) - image.start);
    expect(targets).toEqual([264n, 264n]);
    expect([56n, 144n].map((at) => quad(image, image.start + at))).toEqual([4n, 5n]);
  });

  test('goes to what else is to be done when a step fails, and past it when it does not', () => {
    const image = lay([
      {
        try: { call: 'chdir', args: ['a'] },
        unless: 'error',
        steps: [{ call: 'setsid', args: [] }],
        otherwise: [{ call: 'chdir', args: ['b'] }],
      },
      { call: 'umask', args: [0] },
    ]);
    const numbers = [0n, 88n, 176n, 264n, 352n].map((at) => BigInt.asIntN(64, quad(image, image.start + at)));
    expect(numbers).toEqual([80n, 112n, -2n, 80n, 95n]);
    expect(quad(image, image.start + 72n) - image.start).toBe(264n);
    expect(quad(image, image.start + 176n + 72n) - image.start).toBe(352n);
  });

  test('refuses a result that is used three times, and a NUL byte in a string', () => {
    const use: Step = { call: 'dup3', args: [{ result: 'it' }, 5, 0] };
    expect(() => lay([{ call: 'setsid', args: [], as: 'it' }, use, use, use])).toThrow('more than twice');
    expect(() => lay([use])).toThrow('before it is there');
    expect(() => lay([{ call: 'chdir', args: ['a\0b'] }])).toThrow('NUL');
  });
});

test('an executable has its code and its data in segments of their own', () => {
  const elf = elfExecutable(Buffer.from([0x0f, 0x0b]), Buffer.from('data'));
  expect(elf.readUInt16LE(56)).toBe(2);
  expect([elf.readUInt32LE(68), elf.readUInt32LE(124)]).toEqual([5, 6]);
  expect(elf.readBigUInt64LE(24)).toBe(0x400000n + 176n);
  expect(elf.subarray(4096).toString()).toBe('data');
});
