import type { OciNamespaceType } from './spec.ts';

/** Of an IPC namespace, ipc_namespaces(7), as runc and crun let them through. */
const ipcKeys: readonly string[] = [
  'kernel/msgmax',
  'kernel/msgmnb',
  'kernel/msgmni',
  'kernel/sem',
  'kernel/shmall',
  'kernel/shmmax',
  'kernel/shmmni',
  'kernel/shm_rmid_forced',
];

/** Names of interfaces are among the parts: all that the kernel lets such a name have, save what is special elsewhere. */
const part = /^[A-Za-z0-9_@-][A-Za-z0-9_.@-]*$/;

/**
 * The file of a sysctl below /proc/sys; undefined if the name is none. As sysctl.d(5) has it, the first separator says
 * which it is: `net.ipv4.conf.eth0/1.forwarding` and `net/ipv4/conf/eth0.1/forwarding` are the same.
 */
export function sysctlFile(key: string): string | undefined {
  const isDotted = /^[^./]*\./.test(key);
  const swap: Readonly<Record<string, string>> = { '.': '/', '/': '.' };
  const file = isDotted ? key.replace(/[./]/g, (separator) => swap[separator] ?? '') : key;
  const parts = file.split('/');
  return parts.length > 1 && parts.every((name) => part.test(name)) ? file : undefined;
}

/** Which namespace holds a sysctl, by its file below /proc/sys; undefined if it is the whole kernel's. */
export function sysctlNamespace(file: string): OciNamespaceType | undefined {
  if (ipcKeys.includes(file) || file.startsWith('fs/mqueue/')) return 'ipc';
  if (file.startsWith('net/')) return 'network';
  return file === 'kernel/domainname' || file === 'kernel/hostname' ? 'uts' : undefined;
}
