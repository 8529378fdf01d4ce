import type { MachineContext, Transport } from '../../src/model/provider.ts';
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

/** Resolves when the machine's data disks can be found by their names. */
export async function untilDisksNamed({ machine }: MachineContext, transport: Pick<Transport, 'exec'>): Promise<void> {
  await finish(transport, ['sh', '-c', disksNamed, 'sh', ...machine.disks.map(({ name }) => diskSerial(name))]);
}

/** Resolves when temporary files, settings of the kernel and devices are as everything else in the system expects them. */
export const untilSystem = (transport: Pick<Transport, 'exec'>): Promise<void> =>
  finish(transport, ['sh', '-c', 'command -v systemctl >/dev/null && systemctl start sysinit.target']);

async function finish(transport: Pick<Transport, 'exec'>, argv: readonly string[]): Promise<void> {
  const session = await transport.exec({ argv });
  session.stdin.end();
  session.stdout.resume();
  session.stderr.resume();
  await session.exited;
}
