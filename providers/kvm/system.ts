import type { MachineContext, Transport } from '../../src/model/provider.ts';
import { unlessAborted } from '../../src/sys/unless-aborted.ts';
import { diskSerial } from './arguments.ts';

/*
 * A box lets people in before the rest of its system has started. What follows waits for that rest where it is needed. A box
 * without systemd, or where a part fails, is as far as it gets: no failure.
 */

/** Names of disks, as virtio-blk keeps them, to their links: udev makes them. */
const disksNamed = `
command -v udevadm >/dev/null || exit 0
for name; do
  [ -e "/dev/disk/by-id/virtio-$name" ] || udevadm wait --timeout=30 "/dev/disk/by-id/virtio-$name"
done`;

type Way = Pick<Transport, 'exec'>;

/** Resolves when the machine's data disks can be found by their names. @throws the signal's reason */
export const untilDisksNamed = ({ machine }: MachineContext, transport: Way, signal: AbortSignal): Promise<void> =>
  finish(transport, ['sh', '-c', disksNamed, 'sh', ...machine.disks.map(({ name }) => diskSerial(name))], signal);

/**
 * Resolves when temporary files, settings of the kernel and devices are as everything else in the system expects them: at once, or
 * after minutes where one of its mounts does not come. @throws the signal's reason
 */
export const untilSystem = (transport: Way, signal: AbortSignal): Promise<void> =>
  finish(transport, ['sh', '-c', 'command -v systemctl >/dev/null && systemctl start sysinit.target'], signal);

async function finish(transport: Way, argv: readonly string[], signal: AbortSignal): Promise<void> {
  const session = await transport.exec({ argv });
  session.stdin.end();
  session.stdout.resume();
  session.stderr.resume();
  const stop = () => session.signal('TERM');
  signal.addEventListener('abort', stop, { once: true });
  await unlessAborted(session.exited, signal).finally(() => signal.removeEventListener('abort', stop));
}
