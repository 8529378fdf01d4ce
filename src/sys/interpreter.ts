/** The machine code of interpreter.s: 210 bytes that run a list of system calls (image.ts lays the list out). */
export const interpreter = Buffer.from(
  '53554889fb4889f5488b034883f8ff0f848c0000004883f8fe747d488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f05488b4b' +
    '404885c9740f488901488b4b504885c97403488901488b4b384883f90174334883f90274364883f9037422483d01f0ffff721f4883f90474' +
    '274883f90575314883f8fe741b4883f8ec7415eb234885c07e1e4883c358e975ffffff4885c074f2488b5b48e967ffffff488b43085d5bc3' +
    '48895d0848894510488b7d00488d7508ba10000000b8010000000f05bf7f000000b8e70000000f050f0b',
  'hex',
);

/** Bytes of a step: nr, six arguments, mode, where the result goes, where to go on, where else the result goes. */
export const stepBytes = 88;
export const destinations = [64, 80] as const;

export const modes = { must: 0, may: 1, fork: 2, positive: 3, try: 4, present: 5 } as const;

/** `mov rdi, first step; mov rsi, report`: what comes before the interpreter in a program of its own. */
export function entryCode(start: bigint, report: bigint): Buffer {
  const code = Buffer.from('48bf000000000000000048be0000000000000000', 'hex');
  code.writeBigUInt64LE(start, 2);
  code.writeBigUInt64LE(report, 12);
  return code;
}
