/** The machine code of interpreter.s: 182 bytes that run a list of system calls (image.ts lays the list out). */
export const interpreter = Buffer.from(
  '53554889fb4889f5488b034883f8ff7474488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f05488b4b404885c9740348890148' +
    '8b4b384883f90174334883f90274334883f9037422483d01f0ffff721f4883f90474244883f905752b4883f8fe74184883f8ec7412eb1d48' +
    '85c07e184883c350eb8e4885c074f5488b5b48eb83488b43085d5bc348895d0848894510488b7d00488d7508ba10000000b8010000000f05' +
    'bf7f000000b8e70000000f050f0b',
  'hex',
);

/** Bytes of a step: nr, six arguments, mode, where the result goes, where to go on. */
export const stepBytes = 80;

export const modes = { must: 0, may: 1, fork: 2, positive: 3, try: 4, present: 5 } as const;

/** `mov rdi, first step; mov rsi, report`: what comes before the interpreter in a program of its own. */
export function entryCode(start: bigint, report: bigint): Buffer {
  const code = Buffer.from('48bf000000000000000048be0000000000000000', 'hex');
  code.writeBigUInt64LE(start, 2);
  code.writeBigUInt64LE(report, 12);
  return code;
}
