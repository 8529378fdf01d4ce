import { closeSync, constants, openSync } from 'node:fs';
import { errnoName } from '../sys/errno.ts';
import { allocate, type Memory, type SyscallArgument, trySyscall, withBytes } from '../sys/libc.ts';
import { encodeFilter, type Instruction } from './device-filter.ts';

/* bpf(2): each command has its own view of `union bpf_attr` (linux/bpf.h); what is not set is 0. */

const command = { PROG_LOAD: 5, PROG_ATTACH: 8, PROG_DETACH: 9, PROG_GET_FD_BY_ID: 13, PROG_QUERY: 16 } as const;
const PROG_TYPE_CGROUP_DEVICE = 15;
const CGROUP_DEVICE = 6;
const F_ALLOW_MULTI = 2;
const F_REPLACE = 4;
/** As many programs as one cgroup can hold (BPF_CGROUP_MAX_PROGS). */
const mostPrograms = 64;

/** A bpf(2) call that failed; `code` is the errno's name, as in the errors of node:fs. */
export class BpfError extends Error {
  readonly code: string;
  constructor(what: string, errno: number) {
    super(`bpf ${what}: ${errnoName(errno)}`);
    this.code = errnoName(errno);
  }
}

/**
 * Makes `program` the one filter of the cgroup's devices. Of an earlier one it takes the place in one step where the
 * kernel can do that (5.6), so that there is no moment without a filter. @throws BpfError
 */
export function setDeviceFilter(folder: string, program: readonly Instruction[]): void {
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const cgroup = keep(openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY));
    const filter = keep(load(program));
    const earlier = attachedPrograms(cgroup).map((id) => keep(programFd(id)));
    const [first] = earlier;
    if (first !== undefined && earlier.length === 1 && attach(cgroup, filter, first) === 0) return;
    must('PROG_ATTACH', attach(cgroup, filter));
    for (const old of earlier) must('PROG_DETACH', bpf('PROG_DETACH', [cgroup, old, CGROUP_DEVICE]));
  } finally {
    for (const fd of opened) closeSync(fd);
  }
}

function load(program: readonly Instruction[]): number {
  const code = encodeFilter(program);
  return withBytes(code, (instructions) =>
    withBytes(Buffer.from('MIT\0'), (license) => {
      const attributes = Buffer.alloc(64);
      attributes.writeUInt32LE(PROG_TYPE_CGROUP_DEVICE, 0);
      attributes.writeUInt32LE(program.length, 4);
      attributes.writeBigUInt64LE(instructions, 8);
      attributes.writeBigUInt64LE(license, 16);
      attributes.write('tsv_devices', 48, 'latin1');
      const fd = bpfCall('PROG_LOAD', attributes);
      // Before 5.11 programs count as locked memory, of which the usual limit allows little.
      return must('PROG_LOAD', fd === -1 && raiseLockedMemory() ? bpfCall('PROG_LOAD', attributes) : fd);
    }),
  );
}

/** setrlimit(RLIMIT_MEMLOCK, infinity) for this process. */
function raiseLockedMemory(): boolean {
  const RLIMIT_MEMLOCK = 8;
  return withBytes(Buffer.alloc(16, 0xff), (limit) => trySyscall('prlimit64', 0, RLIMIT_MEMLOCK, limit, 0) === 0);
}

/** Ids of the programs that decide about devices for this cgroup, without those of the cgroups above. */
function attachedPrograms(cgroup: number): number[] {
  const ids: Memory = allocate(mostPrograms * 4);
  try {
    const attributes = Buffer.alloc(32);
    attributes.writeUInt32LE(cgroup, 0);
    attributes.writeUInt32LE(CGROUP_DEVICE, 4);
    attributes.writeBigUInt64LE(ids.address, 16);
    attributes.writeUInt32LE(mostPrograms, 24);
    must('PROG_QUERY', bpfCall('PROG_QUERY', attributes));
    return Array.from({ length: attributes.readUInt32LE(24) }, (_, i) => ids.bytes.readUInt32LE(i * 4));
  } finally {
    ids.free();
  }
}

const programFd = (id: number): number => must('PROG_GET_FD_BY_ID', bpf('PROG_GET_FD_BY_ID', [id]));

const attach = (cgroup: number, filter: number, replaced?: number): number =>
  bpf('PROG_ATTACH', [
    cgroup,
    filter,
    CGROUP_DEVICE,
    F_ALLOW_MULTI | (replaced === undefined ? 0 : F_REPLACE),
    replaced ?? 0,
  ]);

/** A command whose attributes are 32-bit numbers. */
function bpf(name: keyof typeof command, words: readonly number[]): number {
  const attributes = Buffer.alloc(words.length * 4);
  words.forEach((word, i) => {
    attributes.writeUInt32LE(word, i * 4);
  });
  return bpfCall(name, attributes);
}

/** `attributes` gets what the kernel writes back. */
function bpfCall(name: keyof typeof command, attributes: Buffer): number {
  return withBytes(attributes, (address, bytes) => {
    const args: SyscallArgument[] = [command[name], address, attributes.length];
    const result = trySyscall('bpf', ...args);
    bytes.copy(attributes, 0, 0, attributes.length);
    return result;
  });
}

function must(what: string, result: number): number {
  if (result < 0) throw new BpfError(what, -result);
  return result;
}
