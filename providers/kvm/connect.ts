import type { Duplex } from 'node:stream';
import { TsvError } from '../../src/model/errors.ts';
import type { Dialler } from '../../src/model/launch.ts';
import type { MachineContext, Transport } from '../../src/model/provider.ts';
import type { Measure } from '../../src/model/timings.ts';
import { readIdentity } from '../../src/ssh/identity.ts';
import { type Attachment, within } from './attachment.ts';
import { lastLogLines } from './console.ts';
import { machineFiles } from './files.ts';
import { asObject } from './qmp.ts';
import { awaitReadiness, consoleDetails, type Readiness } from './readiness.ts';
import { untilDisksNamed } from './system.ts';
import { errorText } from './text.ts';

export interface SshOptions {
  /** Gives a fresh connection to the machine's port 22. */
  readonly open: () => Promise<Duplex>;
  readonly username: string;
  /** OpenSSH private key, as text. */
  readonly privateKey: string;
  /** OpenSSH public key line; a machine that shows another key is refused with TSV_HOST_KEY. */
  readonly hostKey: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** The SSH client, given by the caller: providers know no protocol. Throws TSV_SSH, TSV_HOST_KEY or TSV_CANCELLED. */
export type ConnectSsh = (options: SshOptions) => Promise<Transport>;

export const sshPort = 22;
/** One dial: a SYN that is lost costs this much, and a machine without an address yet answers nothing at all. */
const dialMs = 1000;
const shortestPauseMs = 20;
const longestPauseMs = 250;
const loginMs = 15_000;

/**
 * Waits until the machine lets us in.
 * @throws TSV_WAIT, TSV_VM_DIED, TSV_HOST_KEY, TSV_CANCELLED
 */
export async function connectMachine(options: {
  context: MachineContext;
  attachment: Attachment;
  dialler: Dialler;
  ssh: ConnectSsh;
  signal: AbortSignal;
  measured?: Measure;
}): Promise<Transport> {
  const { context, attachment, dialler } = options;
  const { name } = context.machine;
  const address = context.addresses[0]?.address;
  if (address === undefined) throw new TsvError('TSV_UNSUPPORTED', `${name} has no network, so it cannot be reached`);
  const identity = readIdentity(machineFiles(context).identity);
  const { console } = attachment;
  let transport: Transport | undefined;
  /** The connection that showed that port 22 answers; SSH goes on with it. */
  let first: Duplex | undefined;
  let inUse: Duplex | undefined;
  const open = async (): Promise<Duplex> => {
    const taken = first;
    first = undefined;
    inUse =
      taken === undefined || taken.destroyed ? await dialler.dial(address, sshPort, { timeoutMs: dialMs }) : taken;
    return inUse;
  };

  const list: Readiness[] = [
    {
      description: 'QEMU runs',
      hint: `tsv halt --force ${name}, then tsv up ${name}`,
      fatal: true,
      async check() {
        const answer = await attachment.qmp.execute('query-status', {}, { timeoutMs: 5000 }).catch(async (error) => {
          // The socket closes a moment before the process is gone, which is the better thing to report.
          if (await within(attachment.exited, 500)) return new Promise<never>(() => {});
          throw error;
        });
        const status = asObject(answer);
        if (status.running !== true) throw new Error(`QEMU is in the state '${String(status.status)}'`);
      },
    },
    {
      description: 'the kernel prints on the console',
      part: 'kernel prints',
      hint: "the machine stopped before its kernel said anything: the box's kernel or its command line does not fit",
      fatal: false, // a silent kernel may still boot
      check: () => console.printed,
    },
    {
      description: `port ${sshPort} answers at ${address}`,
      part: `port ${sshPort} answers`,
      hint: `tsv logs ${name} shows the boot: has it taken its address, has sshd started? A slow host needs a larger boot_timeout`,
      fatal: true,
      async check(signal, report) {
        first = await retry(() => dialler.dial(address, sshPort, { timeoutMs: dialMs }), signal, report);
        first.on('error', () => {}); // between here and the SSH client it may break; the client then dials anew
      },
    },
    {
      description: 'SSH accepts our key',
      part: 'login works',
      hint: `the machine answers, but not with its own identity: were its keys injected? tsv logs ${name}`,
      fatal: true,
      async check(signal, report) {
        const login = () =>
          options.ssh({
            open,
            username: 'root',
            privateKey: identity.login.privateKey,
            hostKey: identity.host.publicKey,
            timeoutMs: loginMs,
            signal,
          });
        const opened = await retry(login, signal, report);
        if (signal.aborted) opened.close();
        else transport = opened;
      },
    },
    ...(context.machine.disks.length === 0
      ? []
      : [
          {
            description: 'its disks have their names',
            part: 'disks have their names',
            hint: `tsv ssh ${name} -c 'ls -l /dev/disk/by-id; systemctl status systemd-udevd'`,
            fatal: true,
            async check(signal: AbortSignal) {
              if (transport !== undefined) await untilDisksNamed(context, transport, signal);
            },
          },
        ]),
  ];

  try {
    await awaitReadiness(list, {
      name,
      timeoutMs: context.machine.bootTimeoutMs,
      signal: options.signal,
      doomed: doom(context, attachment),
      lastLines: () => console.lastLines(15),
      ...(options.measured === undefined ? {} : { measured: options.measured }),
    });
  } finally {
    first?.destroy();
  }
  if (transport === undefined) throw new TsvError('TSV_INTERNAL', `${name}: ready, yet without a connection`);
  // A guest that is gone closes no connection: without this its users would wait for a keepalive to fail.
  void attachment.exited.then(() => inUse?.destroy());
  return transport;
}

/** Rejects when the machine ends, also because its kernel panicked; waiting on is of no use then. */
async function doom(context: MachineContext, { exited, panicked, console }: Attachment): Promise<never> {
  const { name } = context.machine;
  const panic = await Promise.race([exited, panicked]);
  if (typeof panic === 'string') {
    throw new TsvError('TSV_WAIT', `${name}: its kernel panicked: ${panic}`, {
      details: consoleDetails(aroundPanic(console.lastLines(100))),
      hint: `tsv up ${name} tries again; when it panics again, its box or its memory: setting is at fault`,
    });
  }
  const said = lastLogLines(machineFiles(context).qemuLog, 8);
  throw new TsvError('TSV_VM_DIED', `${name}: its QEMU ended while it booted`, {
    details: [...said, ...consoleDetails(console.lastLines(15))],
    hint: `tsv up ${name} starts it again`,
  });
}

/** The kernel's own line, what led to it, and as much of the trace behind it. */
function aroundPanic(lines: readonly string[]): readonly string[] {
  const at = lines.findLastIndex((line) => line.includes('Kernel panic'));
  return at === -1 ? lines.slice(-15) : lines.slice(Math.max(0, at - 7), at + 8);
}

/** Errors that another try does not mend. */
const finalCodes = new Set(['TSV_HOST_KEY', 'TSV_CANCELLED']);

/** Tries with short growing pauses: a guest's port opens without an event. */
async function retry<T>(attempt: () => Promise<T>, signal: AbortSignal, report: (why: string) => void): Promise<T> {
  for (let pauseMs = shortestPauseMs; ; pauseMs = Math.min(pauseMs * 1.5, longestPauseMs)) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof TsvError && finalCodes.has(error.code)) throw error;
      report(errorText(error));
    }
    await abortablePause(pauseMs, signal);
  }
}

function abortablePause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
