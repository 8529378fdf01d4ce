import koffi from 'koffi';
import { TsvError } from '../model/errors.ts';
import { errnoName } from './errno.ts';

/**
 * The only module that talks to native code. Everything goes through syscall(2) with whole numbers: each structure
 * is laid out in plain memory by whoever needs it, next to the man page that describes it.
 */

if (process.arch !== 'x64') {
  throw new TsvError('TSV_UNSUPPORTED', `containers and the agent need x86-64; this is ${process.arch}`);
}

const libc = koffi.load('libc.so.6');
const rawSyscall = libc.func('long syscall(long nr, long a, long b, long c, long d, long e, long f)');
const mmap = libc.func('void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)');

/** System call numbers of x86-64 (syscalls(2), arch/x86/entry/syscalls/syscall_64.tbl). */
export const NR = {
  read: 0,
  write: 1,
  open: 2,
  close: 3,
  lseek: 8,
  rt_sigaction: 13,
  rt_sigprocmask: 14,
  ioctl: 16,
  socket: 41,
  connect: 42,
  sendmsg: 46,
  recvmsg: 47,
  socketpair: 53,
  clone: 56,
  execve: 59,
  fcntl: 72,
  flock: 73,
  fsync: 74,
  chdir: 80,
  fchdir: 81,
  fchmod: 91,
  fchown: 93,
  umask: 95,
  setsid: 112,
  setgroups: 116,
  setresuid: 117,
  setresgid: 119,
  setfsuid: 122,
  setfsgid: 123,
  capset: 126,
  personality: 135,
  fstatfs: 138,
  pivot_root: 155,
  prctl: 157,
  chroot: 161,
  mount: 165,
  umount2: 166,
  sethostname: 170,
  setdomainname: 171,
  lsetxattr: 189,
  fsetxattr: 190,
  lgetxattr: 192,
  exit_group: 231,
  waitid: 247,
  keyctl: 250,
  ioprio_set: 251,
  openat: 257,
  mkdirat: 258,
  mknodat: 259,
  fchownat: 260,
  unlinkat: 263,
  renameat: 264,
  linkat: 265,
  symlinkat: 266,
  readlinkat: 267,
  fchmodat: 268,
  faccessat: 269,
  unshare: 272,
  utimensat: 280,
  eventfd2: 290,
  dup3: 292,
  pipe2: 293,
  prlimit64: 302,
  syncfs: 306,
  setns: 308,
  sched_setattr: 314,
  seccomp: 317,
  memfd_create: 319,
  bpf: 321,
  execveat: 322,
  pidfd_send_signal: 424,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  pidfd_open: 434,
  close_range: 436,
  openat2: 437,
  pidfd_getfd: 438,
  mount_setattr: 442,
} as const;

export type SyscallName = keyof typeof NR;

/** Memory outside V8's heap at a fixed address, zeroed. It is this process's until {@link Memory.free}. */
export interface Memory {
  readonly address: bigint;
  readonly bytes: Buffer;
  free(): void;
}

const PROT = { READ: 1, WRITE: 2, EXEC: 4 } as const;
const MAP_SHARED = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** mmap(2) of `size` bytes, readable and writable. */
export function allocate(size: number): Memory {
  const memory = map(size, MAP_PRIVATE_ANONYMOUS, -1);
  if (typeof memory === 'number') throw new TsvError('TSV_SYSCALL', `no memory: mmap of ${size} bytes failed`);
  return memory;
}

/** mmap(2) of the first `size` bytes of what a descriptor stands for, shared with whoever else has it; or -errno. */
export const mapShared = (fd: number, size: number): Memory | number => map(size, MAP_SHARED, fd);

function map(size: number, flags: number, fd: number): Memory | number {
  const pointer: unknown = mmap(null, size, PROT.READ | PROT.WRITE, flags, fd, 0);
  const errno = koffi.errno();
  const address = BigInt(koffi.address(pointer));
  if (address >= 0xffff_ffff_ffff_f000n) return -errno;
  const munmap = 11;
  return {
    address,
    // Safety: the mapping lives until free(); users do not keep `bytes` beyond it.
    bytes: Buffer.from(koffi.view(pointer, size)),
    free: () => {
      rawSyscall(munmap, address, size, 0, 0, 0, 0);
    },
  };
}

const entryPrototype = koffi.proto('long (void *steps, void *report)');

/** Places machine code in memory (readable and executable, no longer writable) and returns a way to call it. */
export function loadCode(code: Uint8Array): (steps: bigint, report: bigint) => number {
  const memory = allocate(4096);
  memory.bytes.set(code);
  const mprotect = 10;
  if (Number(rawSyscall(mprotect, memory.address, 4096, PROT.READ | PROT.EXEC, 0, 0, 0)) !== 0) {
    throw new TsvError('TSV_SYSCALL', 'this host forbids executable memory', { details: [errnoName(koffi.errno())] });
  }
  // Safety: the code is never freed; it keeps to its two arguments and the C calling convention (see program.ts).
  return (steps, report) => Number(koffi.call(memory.address, entryPrototype, steps, report));
}

export type SyscallArgument = number | bigint;

/** One system call; a negative return is -errno. */
export function trySyscall(name: SyscallName, ...args: SyscallArgument[]): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = args;
  const result = Number(rawSyscall(NR[name], a, b, c, d, e, f));
  // errno is right only now, before anything else runs on this thread.
  return result === -1 ? -koffi.errno() : result;
}

/** One system call. @throws TSV_SYSCALL naming the call, what it was for, and the errno. */
export function syscall(name: SyscallName, purpose: string, ...args: SyscallArgument[]): number {
  const result = trySyscall(name, ...args);
  if (result < 0) throw syscallError(name, purpose, -result);
  return result;
}

export function syscallError(name: string, purpose: string, errno: number): TsvError {
  return new TsvError('TSV_SYSCALL', `${purpose}: ${name} failed with ${errnoName(errno)}`);
}

/** Runs `work` with `content` copied to native memory for its duration. */
export function withBytes<T>(content: Uint8Array, work: (address: bigint, bytes: Buffer) => T): T {
  const memory = allocate(Math.max(content.length, 8));
  try {
    memory.bytes.set(content);
    return work(memory.address, memory.bytes);
  } finally {
    memory.free();
  }
}

export function withCString<T>(text: string, work: (address: bigint) => T): T {
  if (text.includes('\0')) throw new TsvError('TSV_SYSCALL', `a NUL byte in '${text.replaceAll('\0', '\\0')}'`);
  return withBytes(Buffer.from(`${text}\0`), work);
}

/** Calls back each time the descriptor becomes readable, on the event loop. The returned function ends it. */
export function pollReadable(fd: number, callback: () => void): { stop(): void; unref(): void } {
  const handle = koffi.node.poll(fd, { readable: true }, callback);
  return { stop: () => handle.close(), unref: () => handle.unref() };
}

/** A function of a shared library: whole numbers and addresses go in as they are, texts as `const char *`. */
export type NativeFunction = (...args: (number | bigint | string)[]) => number | bigint;

/**
 * Functions of a shared library by their C declarations, which name only whole numbers and `const char *`.
 * They run on the calling thread.
 * @throws the dynamic loader's Error when the library, or a function in it, is not there.
 */
export function loadLibrary<Name extends string>(
  file: string,
  declarations: Readonly<Record<Name, string>>,
): Readonly<Record<Name, NativeFunction>> {
  const library = koffi.load(file);
  const functions = Object.entries<string>(declarations).map(([name, declaration]) => [
    name,
    library.func(declaration),
  ]);
  return Object.fromEntries(functions) as Record<Name, NativeFunction>;
}
