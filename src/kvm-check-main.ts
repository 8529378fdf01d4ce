import { writeSync } from 'node:fs';
import { checkKvm } from './kvm/check.ts';
import type { CheckJob } from './kvm/protocol.ts';

/**
 * The process that checks KVM: it may hang in a guest, and is then ended by its parent, which knows by the lines on its
 * standard output (src/kvm/protocol.ts) what it was at.
 */
checkKvm(JSON.parse(process.argv[2] ?? '') as CheckJob, (message) => {
  writeSync(1, `${JSON.stringify(message)}\n`);
});
