import { getSystemErrorMap } from 'node:util';
import type { KvmHost } from './host.ts';
import { type CheckReport, type Failure, type StepId, steps } from './protocol.ts';

/** Why KVM cannot be used, for people. */
export interface Explanation {
  /** What failed, with its step. */
  readonly what: string;
  readonly why: string;
  /** Commands that mend it, a line each. What has to be done elsewhere is a comment. */
  readonly mend?: string;
  /** It may be different the next time without anybody mending anything. */
  readonly isTransient: boolean;
}

/** What failed, and why; undefined when nothing did. Pure. */
export function explain({ failure }: CheckReport, host: KvmHost): Explanation | undefined {
  if (failure === undefined) return undefined;
  const what = failureText(failure.step, failure.failure);
  return { what, ...reason(failure.step, failure.failure, host) };
}

/** Without an explanation: `make a virtual machine: KVM_CREATE_VM failed with EBUSY`. */
export const failureText = (step: StepId, failure: Failure): string => `${steps[step]}: ${outcome(failure)}`;

/** What happened instead. */
export function outcome(failure: Failure): string {
  switch (failure.kind) {
    case 'errno':
      return `${failure.call} failed with ${failure.errno}`;
    case 'answer':
      return failure.text;
    case 'hang':
      return `not over after ${failure.limitMs} ms, and ended`;
    case 'died':
      return `its process ended (${failure.text})`;
  }
}

type Reason = Omit<Explanation, 'what'>;

function reason(step: StepId, failure: Failure, host: KvmHost): Reason {
  if (step === 'start' || failure.kind === 'died')
    return { why: 'the check itself could not be made: this says nothing about KVM', isTransient: true };
  if (failure.kind === 'hang') {
    return {
      why: `a call that takes microseconds did not return${around(host)}`,
      isTransient: false,
    };
  }
  if (failure.kind === 'answer') {
    const isGuest = step === 'real-mode' || step === 'long-mode';
    const why = isGuest
      ? `KVM does not run code as a CPU does${around(host)}`
      : 'this is not the KVM of a usual kernel';
    return { why, isTransient: false };
  }
  if (step === 'open') return { ...explainOpen(failure.errno, host), isTransient: failure.errno === 'EBUSY' };
  return explainErrno(failure.errno, host);
}

const around = (host: KvmHost): string =>
  host.isGuest ? '; this host is a virtual machine, and its hypervisor may be what cannot do it' : '';

function explainErrno(errno: string, host: KvmHost): Reason {
  switch (errno) {
    case 'EBUSY':
      return { ...busy(host), isTransient: true };
    case 'ENOTTY':
      return { why: 'the device is not KVM', isTransient: false };
    case 'ENOMEM':
    case 'EAGAIN':
    case 'EMFILE':
    case 'ENFILE':
      return { why: `this host lacks room for it (${errnoText(errno)})`, isTransient: true };
    case 'EOPNOTSUPP':
    case 'ENOTSUP':
    case 'EIO':
      return {
        why: `the CPU's virtualisation cannot be switched on (${errnoText(errno)})${around(host)}`,
        isTransient: false,
      };
    default:
      return { why: `${errnoText(errno)}${around(host)}`, isTransient: false };
  }
}

/** Pure. What an errno of opening the device means on this host. */
export function explainOpen(errno: string, host: KvmHost): { why: string; mend?: string } {
  switch (errno) {
    case 'ENOENT':
      return absent(host);
    case 'ENODEV':
    case 'ENXIO':
      return { why: '/dev/kvm is there, but the kernel has no KVM for it: its module is not loaded', ...module(host) };
    case 'EACCES':
      return forbidden(host);
    case 'EPERM':
      return {
        why: '/dev/kvm may not be opened by this user: its control group keeps it from the device, as in a container',
        mend: '# where the container is started: --device /dev/kvm',
      };
    case 'EBUSY':
      return busy(host);
    default:
      return { why: `/dev/kvm cannot be opened (${errno})` };
  }
}

function absent(host: KvmHost): { why: string; mend?: string } {
  if (host.isRegistered)
    return {
      why: 'there is no /dev/kvm, although the kernel has KVM: nobody made the device, as in a container',
      mend: 'sudo mknod --mode=0660 /dev/kvm c 10 232 && sudo chgrp kvm /dev/kvm   # in a container: start it with --device /dev/kvm',
    };
  if (host.cpuFlags === 'vmx' || host.cpuFlags === 'svm')
    return { why: 'there is no /dev/kvm: the module for this CPU is not loaded', ...module(host) };
  if (host.isGuest)
    return {
      why: 'there is no /dev/kvm: this host is a virtual machine, and its hypervisor has nested virtualisation off',
      ...nested(host),
    };
  return {
    why: 'there is no /dev/kvm: the CPU has no virtualisation (VT-x, AMD-V), or the firmware switched it off',
  };
}

function module({ cpuFlags }: KvmHost): { mend?: string } {
  if (cpuFlags === 'vmx') return { mend: 'sudo modprobe kvm_intel' };
  return cpuFlags === 'svm' ? { mend: 'sudo modprobe kvm_amd' } : {};
}

/** Its commands are for another host: as a comment nobody runs them here. */
function nested({ cpuVendor }: KvmHost): { mend?: string } {
  if (cpuVendor === 'other') return {};
  const name = `kvm_${cpuVendor}`;
  return { mend: `# on the host of this virtual machine: sudo modprobe -r ${name} && sudo modprobe ${name} nested=1` };
}

function forbidden({ deviceMode, group, user }: KvmHost): { why: string; mend: string } {
  const why = `/dev/kvm may not be opened by this user (owner and mode ${deviceMode})`;
  if (group?.isNew === true)
    return {
      why: `${why}, who has been put into group ${group.name} after this login`,
      mend: `newgrp ${group.name}   # or log in again`,
    };
  const join = (name: string): string => `sudo usermod --append --groups ${name} ${user}   # then log in again`;
  if (group !== undefined) return { why: `${why}, who is not in group ${group.name}`, mend: join(group.name) };
  return { why, mend: `sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm\n${join('kvm')}` };
}

const ends: Readonly<Record<string, string>> = {
  vboxdrv:
    'sudo modprobe -r vboxnetadp vboxnetflt vboxdrv   # after the virtual machines of VirtualBox have been stopped',
  vmmon: 'sudo modprobe -r vmnet vmmon   # after the virtual machines of VMware have been stopped',
};

function busy({ otherHypervisors }: KvmHost): { why: string; mend?: string } {
  const who = otherHypervisors.length === 0 ? '' : ` (loaded: ${otherHypervisors.join(', ')})`;
  const mend = otherHypervisors.flatMap((name) => ends[name] ?? []).join('\n');
  return { why: `/dev/kvm is busy: another hypervisor holds the CPU${who}`, ...(mend === '' ? {} : { mend }) };
}

/** `no such device` for ENODEV; the name itself where there is no text. */
function errnoText(name: string): string {
  for (const [known, text] of getSystemErrorMap().values()) if (known === name) return text;
  return name;
}
