/*
 * PID 1 of a container without a command: reaps orphans; TERM, INT, QUIT or HUP make it pass TERM to everything inside
 * and end when the last process has. A complete program of 209 bytes of x86-64 code that needs nothing of the image:
 *
 *   block all signals; terminating = false
 *   loop: s = rt_sigtimedwait(all signals, terminating ? 10 ms : for ever)
 *     if s is TERM, INT, QUIT or HUP: terminating = true; kill(-1, TERM); kill(-1, CONT)
 *     while wait4(-1, WNOHANG | __WALL) > 0: go on
 *     if terminating and kill(-1, 0) says ESRCH: exit_group(0)
 *
 * It looks again every 10 ms, because commands that were started from outside are nobody's children in here: no signal
 * tells when the last of them has ended.
 */
const code = Buffer.from(
  '4883ec4048c70424ffffffff48c74424080000000048c7442410809698004531e4b80e000000bf020000004889e631d241ba080000000f05' +
    'b8800000004889e731f64c89e241ba080000000f0583f80f740f83f802740a83f803740583f801752b4c8d642408b83e00000048c7c7ffff' +
    'ffffbe0f0000000f05b83e00000048c7c7ffffffffbe120000000f05b83d00000048c7c7ffffffff31f6ba010000404531d20f054885c07f' +
    'e34d85e4748ab83e00000048c7c7ffffffff31f60f054883f8fd0f8570ffffffb8e700000031ff0f05',
  'hex',
);

/** The init as an ELF executable (elf(5)): file header, one loadable read-only executable segment, the code. */
export function initExecutable(): Buffer {
  const base = 0x400000n;
  const headers = Buffer.alloc(64 + 56);
  headers.write('\x7fELF', 0, 'latin1');
  headers.set([2, 1, 1, 0], 4); // 64-bit, little endian, version 1, System V
  headers.writeUInt16LE(2, 16); // ET_EXEC
  headers.writeUInt16LE(62, 18); // EM_X86_64
  headers.writeUInt32LE(1, 20);
  headers.writeBigUInt64LE(base + BigInt(headers.length), 24); // entry
  headers.writeBigUInt64LE(64n, 32); // program headers follow
  headers.writeUInt16LE(64, 52);
  headers.writeUInt16LE(56, 54);
  headers.writeUInt16LE(1, 56);
  headers.writeUInt32LE(1, 64); // PT_LOAD
  headers.writeUInt32LE(5, 68); // read, execute
  headers.writeBigUInt64LE(base, 80);
  headers.writeBigUInt64LE(base, 88);
  const size = BigInt(headers.length + code.length);
  headers.writeBigUInt64LE(size, 96);
  headers.writeBigUInt64LE(size, 104);
  headers.writeBigUInt64LE(0x1000n, 112);
  return Buffer.concat([headers, code]);
}
