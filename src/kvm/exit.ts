import { exitReasons, internalErrors, run } from './uapi.ts';

/** Why KVM_RUN returned, as struct kvm_run says. */
export type Exit =
  | { readonly reason: 'halt' }
  | { readonly reason: 'out'; readonly port: number; readonly bytes: number; readonly value: number }
  /** Anything that a guest which works does not cause, in words. */
  | { readonly reason: 'other'; readonly text: string };

/** Reads struct kvm_run (at the beginning of what is mapped of the virtual CPU). Pure. */
export function readExit(area: Buffer): Exit {
  const reason = area.readUInt32LE(run.exitReason);
  const name = exitReasons[reason as keyof typeof exitReasons];
  switch (name) {
    case 'KVM_EXIT_HLT':
      return { reason: 'halt' };
    case 'KVM_EXIT_IO':
      return readIo(area);
    case 'KVM_EXIT_SHUTDOWN':
      return other(name, 'the guest met a fault that it could not handle (triple fault)');
    case 'KVM_EXIT_MMIO': {
      const verb = area.readUInt8(run.mmio.isWrite) === 0 ? 'reads' : 'writes';
      return other(
        name,
        `the guest ${verb} at ${hexOf(area.readBigUInt64LE(run.mmio.address))}, where it has no memory`,
      );
    }
    case 'KVM_EXIT_FAIL_ENTRY':
      return other(name, `the CPU refused to enter the guest (${hexOf(area.readBigUInt64LE(run.failEntry.reason))})`);
    case 'KVM_EXIT_INTERNAL_ERROR': {
      const suberror = area.readUInt32LE(run.internal.suberror);
      return other(name, internalErrors[suberror as keyof typeof internalErrors] ?? `suberror ${suberror}`);
    }
    case 'KVM_EXIT_UNKNOWN':
      return other(name, `hardware exit reason ${hexOf(area.readBigUInt64LE(run.unknown.hardwareReason))}`);
    case undefined:
      return other(`exit reason ${reason}`);
    default:
      return other(name);
  }
}

function readIo(area: Buffer): Exit {
  const [direction, bytes] = [area.readUInt8(run.io.direction), area.readUInt8(run.io.bytes)];
  const port = area.readUInt16LE(run.io.port);
  const offset = Number(area.readBigUInt64LE(run.io.dataOffset));
  const isOut = direction === 1 && area.readUInt32LE(run.io.count) === 1;
  if (!isOut || ![1, 2, 4].includes(bytes) || offset + bytes > area.length)
    return other('KVM_EXIT_IO', `not one write of 1, 2 or 4 bytes, at port ${hexOf(port)}`);
  return { reason: 'out', port, bytes, value: area.readUIntLE(offset, bytes) };
}

const other = (name: string, text = ''): Exit => ({ reason: 'other', text: text === '' ? name : `${name}: ${text}` });

/** An exit in a few words. */
export function exitText(exit: Exit): string {
  if (exit.reason === 'halt') return 'KVM_EXIT_HLT';
  if (exit.reason === 'other') return exit.text;
  return `KVM_EXIT_IO: out of ${exit.bytes} bytes to port ${hexOf(exit.port)}: ${hexOf(exit.value)}`;
}

const hexOf = (value: number | bigint): string => `0x${value.toString(16)}`;
