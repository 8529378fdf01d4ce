import { elfExecutable } from '../sys/elf.ts';

/** The machine code of init.s. */
export const initCode = Buffer.from(
  '4c8b2c244883ec4048c70424ffffffff48c74424080000000048c7442410809698004531e4b80e000000bf020000004889e631d241ba0800' +
    '00000f05eb69b8800000004889e731f64c89e241ba080000000f0585c0785083f811744b4983fd01773783f80f740583f803773b4c8d6424' +
    '08b83e00000048c7c7ffffffffbe0f0000000f05b83e00000048c7c7ffffffffbe120000000f05eb0e89c6b83e000000bf020000000f05b8' +
    '3d00000048c7c7ffffffff488d742418ba010000404531d20f0585c07e294983fd0176db83f80275d68b7c241889f883e07f74088db88000' +
    '0000eb30c1ef0881e7ff000000eb254d85e40f8446ffffffb83e00000048c7c7ffffffff31f60f054883f8fd0f852cffffff31ffb8e70000' +
    '000f05',
  'hex',
);

/** PID 1 of a container without a command, or, with an argument, of one whose command is to be its child. */
export const initExecutable = (): Buffer => elfExecutable(initCode);
