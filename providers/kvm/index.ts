export type { NicBackend } from './arguments.ts';
export type { ConnectSsh, SshOptions } from './connect.ts';
export { createKvmProvider, type KvmMemory, type KvmOptions, type KvmProvider } from './provider.ts';
export { tapName } from './tap.ts';
