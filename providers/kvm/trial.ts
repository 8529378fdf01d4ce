import { spawn } from 'node:child_process';
import { errorText } from './text.ts';

export interface TrialResult {
  readonly works: boolean;
  /** Why not, or what was seen. */
  readonly reason: string;
  /** It ran out of time: probably broken, possibly slow. */
  readonly inconclusive?: boolean;
  /** It may be different the next time (another hypervisor holds the CPU): not to be remembered. */
  readonly transient?: boolean;
}

const trialMs = 4000;
const outputLimit = 16 << 10;

/**
 * Runs a kernel on KVM until it says its banner. An opened /dev/kvm, its API version and even real-mode code prove
 * little: there are hosts where all of that works and no kernel gets past its real-mode start.
 * The guest has no disk and no network, and ends with the trial; `timeout` ends it should this process be killed.
 */
export function tryKvm(qemuBinary: string, kernel: string, limitMs: number = trialMs): Promise<TrialResult> {
  const argv = [
    ...['--signal=KILL', String(Math.ceil(limitMs / 1000) + 1), qemuBinary],
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-no-reboot'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-machine', 'q35', '-accel', 'kvm', '-cpu', 'host', '-m', '256M', '-serial', 'stdio'],
    ...['-kernel', kernel, '-append', 'console=ttyS0 earlyprintk=serial,ttyS0 panic=-1'],
  ];
  return new Promise((resolve) => {
    // A process group of its own: the signal has to reach QEMU, not only `timeout`.
    const child = spawn('timeout', argv, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let said = '';
    let complaints = '';
    let settled = false;
    const settle = (result: TrialResult) => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // ESRCH: it ended by itself
      }
      resolve(result);
    };
    const timer = setTimeout(() => {
      const last = lastLine(said);
      const seen = last === '' ? 'it printed nothing' : `the last it printed was '${last}'`;
      settle({
        works: false,
        inconclusive: true,
        reason: `a trial guest did not start its kernel within ${limitMs} ms (${seen})`,
      });
    }, limitMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-outputLimit);
      if (said.includes('Linux version ')) settle({ works: true, reason: 'a trial guest started its kernel' });
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(-outputLimit);
    });
    child.on('error', (error) =>
      settle({ works: false, transient: true, reason: `no trial guest could be run: ${errorText(error)}` }),
    );
    child.on('close', (code, signal) => settle(afterExit(complaints, signal ?? `exit code ${code}`)));
  });
}

/** QEMU's stderr is shown, not interpreted, but for the one errno that passes by itself. */
function afterExit(complaints: string, how: string): TrialResult {
  const line = complaints.split('\n').find((text) => text.trim() !== '') ?? '';
  const reason = line === '' ? `QEMU ended (${how})` : line.replace(/^qemu-system-\S+: /, '').trim();
  return { works: false, reason, ...(/busy/i.test(complaints) ? { transient: true } : {}) };
}

const lastLine = (text: string): string => text.trim().split(/\r?\n/).at(-1)?.slice(0, 80) ?? '';
