import { errnoName } from '../sys/errno.ts';
import { O } from '../sys/flags.ts';
import { type Memory, mapShared, trySyscall, withCString } from '../sys/libc.ts';
import type { Call, Failure } from './protocol.ts';
import { type RequestName, requests } from './uapi.ts';

/** Ends a step of the check. */
export class StepFailed extends Error {
  readonly failure: Failure;

  constructor(failure: Failure) {
    super(failure.kind);
    this.failure = failure;
  }
}

/** Makes system calls, and keeps what they were and how long each took. */
export class Calls {
  private made: Call[] = [];

  /** What was called since the last time. */
  take(): readonly Call[] {
    return this.made.splice(0);
  }

  open(device: string): number {
    return withCString(device, (path) =>
      this.must({ name: 'open', note: device }, () => trySyscall('open', path, O.RDWR | O.CLOEXEC)),
    );
  }

  /** mmap(2) of the virtual CPU's descriptor. */
  map(fd: number, bytes: number): Memory {
    let memory: Memory | undefined;
    this.must({ name: 'mmap', note: `${bytes} bytes` }, () => {
      const mapped = mapShared(fd, bytes);
      if (typeof mapped === 'number') return mapped;
      memory = mapped;
      return Number(mapped.address);
    });
    if (memory === undefined) throw new StepFailed({ kind: 'answer', text: 'mmap gave no memory' });
    return memory;
  }

  /** ioctl(2). @returns its result @throws StepFailed with the errno */
  ioctl(name: RequestName, fd: number, argument: number | bigint = 0, note?: string): number {
    return this.must({ name, request: requests[name], ...(note === undefined ? {} : { note }) }, () =>
      trySyscall('ioctl', fd, requests[name], argument),
    );
  }

  /** KVM_RUN until the guest exits: a signal that comes between is passed over. @throws StepFailed with the errno */
  run(vcpu: number): void {
    for (;;) {
      try {
        this.ioctl('KVM_RUN', vcpu);
        return;
      } catch (error) {
        if (!(error instanceof StepFailed && error.failure.kind === 'errno' && error.failure.errno === 'EINTR'))
          throw error;
      }
    }
  }

  /** Adds to the last call what came of it. */
  note(text: string): void {
    const last = this.made.pop();
    if (last !== undefined) this.made.push({ ...last, note: text });
  }

  private must(call: Omit<Call, 'result' | 'ms'>, make: () => number): number {
    const began = performance.now();
    const result = make();
    const ms = performance.now() - began;
    const errno = result < 0 ? errnoName(-result) : undefined;
    this.made.push({ ...call, result: errno === undefined ? result : { errno }, ms });
    if (errno !== undefined) throw new StepFailed({ kind: 'errno', call: call.name, errno });
    return result;
  }
}
