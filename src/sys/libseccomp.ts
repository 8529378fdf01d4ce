import { closeSync, fstatSync, readSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { memoryFile } from './fork.ts';
import { loadLibrary, syscall, withBytes } from './libc.ts';

/*
 * libseccomp, seccomp_init(3) and its neighbours. It turns rules into a filter in memory and never installs one here.
 * A filter context travels as the address that the library gave; actions are SECCOMP_RET_* of seccomp(2).
 */
const declarations = {
  seccomp_init: 'uintptr_t seccomp_init(uint32_t default_action)',
  seccomp_release: 'void seccomp_release(uintptr_t filter)',
  seccomp_arch_add: 'int seccomp_arch_add(uintptr_t filter, uint32_t arch)',
  seccomp_attr_set: 'int seccomp_attr_set(uintptr_t filter, int attribute, uint32_t value)',
  seccomp_rule_add_array:
    'int seccomp_rule_add_array(uintptr_t filter, uint32_t action, int syscall, unsigned int count, uintptr_t args)',
  seccomp_export_bpf: 'int seccomp_export_bpf(uintptr_t filter, int fd)',
  seccomp_syscall_resolve_name_arch: 'int seccomp_syscall_resolve_name_arch(uint32_t arch, const char *name)',
  seccomp_version: 'uintptr_t seccomp_version()',
  seccomp_api_get: 'unsigned int seccomp_api_get()',
};

let loaded: ReturnType<typeof load> | undefined;

const load = () => loadLibrary<keyof typeof declarations>('libseccomp.so.2', declarations);

/** Loaded with the first filter: most commands need none. */
function library(): ReturnType<typeof load> {
  try {
    loaded ??= load();
    return loaded;
  } catch (error) {
    throw new TsvError('TSV_HOST_MISSING', 'the library libseccomp.so.2 is not installed, or too old', {
      details: [error instanceof Error ? error.message : String(error)],
      hint: 'sudo apt-get install -y --no-install-recommends libseccomp2',
      cause: error,
    });
  }
}

/** SCMP_ARCH_*: AUDIT_ARCH_* of linux/audit.h, save x32, which shares x86-64's there. */
export const architectures = { x86_64: 0xc000003e, x86: 0x40000003, x32: 0x4000003e } as const;
export type Architecture = keyof typeof architectures;

/** enum scmp_compare */
export const comparisons = { NE: 1, LT: 2, LE: 3, EQ: 4, GE: 5, GT: 6, MASKED_EQ: 7 } as const;

/** struct scmp_arg_cmp; for MASKED_EQ `first` is the mask, and `second` what is left of the argument under it. */
export interface ArgumentTest {
  readonly index: number;
  readonly comparison: number;
  readonly first: bigint;
  readonly second: bigint;
}

/** A filter in the making, which has x86-64 from the start. The methods return 0 or an errno, as their manual pages say. */
export interface FilterContext {
  addArchitecture(architecture: Architecture): number;
  /** seccomp_rule_add_array(3): `syscall` is the number on x86-64, for the other architectures it is translated. */
  addRule(action: number, syscall: number, tests: readonly ArgumentTest[]): number;
  /** SCMP_FLTATR_CTL_OPTIMIZE: rules as a binary tree by number, not one after the other. */
  useBinaryTree(): number;
  /** An array of struct sock_filter, linux/filter.h. @throws TSV_SECCOMP */
  exportBpf(): Buffer;
}

/** Runs `work` with a filter that answers what no rule names with `defaultAction`. @throws TSV_HOST_MISSING, TSV_SECCOMP */
export function withFilterContext<T>(defaultAction: number, work: (context: FilterContext) => T): T {
  const functions = library();
  const context = BigInt(functions.seccomp_init(defaultAction));
  if (context === 0n) {
    throw new TsvError('TSV_SECCOMP', `libseccomp refuses the default action 0x${defaultAction.toString(16)}`, {
      hint: 'this kernel may be too old for it: cat /proc/sys/kernel/seccomp/actions_avail',
    });
  }
  const errno = (result: number | bigint): number => Math.max(0, -Number(result));
  try {
    return work({
      addArchitecture: (architecture) => errno(functions.seccomp_arch_add(context, architectures[architecture])),
      addRule: (action, number, tests) => {
        const add = (address: bigint): number =>
          errno(functions.seccomp_rule_add_array(context, action, number, tests.length, address));
        // Safety: the library copies the tests before it returns.
        return tests.length === 0 ? add(0n) : withBytes(layOutTests(tests), add);
      },
      useBinaryTree: () => errno(functions.seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2)),
      exportBpf: () =>
        written((fd) => {
          const failed = errno(functions.seccomp_export_bpf(context, fd));
          if (failed !== 0) throw new TsvError('TSV_SECCOMP', `libseccomp: seccomp_export_bpf failed with ${failed}`);
        }),
    });
  } finally {
    functions.seccomp_release(context);
  }
}

const SCMP_FLTATR_CTL_OPTIMIZE = 8;

function layOutTests(tests: readonly ArgumentTest[]): Buffer {
  const size = 24;
  const bytes = Buffer.alloc(tests.length * size);
  tests.forEach((test, i) => {
    bytes.writeUInt32LE(test.index, i * size);
    bytes.writeInt32LE(test.comparison, i * size + 4);
    bytes.writeBigUInt64LE(test.first, i * size + 8);
    bytes.writeBigUInt64LE(test.second, i * size + 16);
  });
  return bytes;
}

/**
 * The number of a system call, seccomp_syscall_resolve_name(3); below -1 where only other architectures have it, or
 * i386 only as a part of socketcall(2) or ipc(2): rules take such numbers too. undefined: the library knows no such call.
 */
export function syscallNumber(name: string, architecture: Architecture = 'x86_64'): number | undefined {
  const number = Number(library().seccomp_syscall_resolve_name_arch(architectures[architecture], name));
  return number === -1 ? undefined : number;
}

/** `2.5.4`, and the API level, seccomp_api_get(3): what library and kernel can do together. */
export function libseccompVersion(): { version: string; apiLevel: number } {
  // Safety: struct scmp_version, three unsigned int, is constant data of the library, which is never unloaded.
  const numbers = written((fd) => {
    syscall('write', 'reading the version of libseccomp', fd, library().seccomp_version(), 12);
  });
  const version = [0, 4, 8].map((at) => numbers.readUInt32LE(at)).join('.');
  return { version, apiLevel: Number(library().seccomp_api_get()) };
}

/** What `write` writes to a file in memory. */
function written(write: (fd: number) => void): Buffer {
  const fd = memoryFile('seccomp', new Uint8Array(0), { writable: true });
  try {
    write(fd);
    const content = Buffer.alloc(fstatSync(fd).size);
    readSync(fd, content, 0, content.length, 0);
    return content;
  } finally {
    closeSync(fd);
  }
}
