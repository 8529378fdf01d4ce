import type { Transport } from '../../src/model/provider.ts';
import { asObject, type Qmp, QmpError } from './qmp.ts';

/** A place for a CPU (QEMU's qapi/machine.json, HotpluggableCPU). */
interface CpuSlot {
  readonly taken: boolean;
  /** Its CPU was there when QEMU was started. */
  readonly atStart: boolean;
  /** QEMU's driver of the CPUs of this machine. */
  readonly type: string;
  /** `socket-id`, `core-id`, …: where it is. */
  readonly place: Readonly<Record<string, number>>;
}

/** In the order in which they are to be taken. */
export async function cpuSlots(qmp: Qmp): Promise<readonly CpuSlot[]> {
  const answer = await qmp.execute('query-hotpluggable-cpus');
  const slots = (Array.isArray(answer) ? answer : []).map((entry): CpuSlot => {
    const slot = asObject(entry);
    const place = Object.entries(asObject(slot.props)).map(([key, value]) => [key, Number(value)]);
    const path = slot['qom-path'];
    return {
      taken: path !== undefined,
      // What comes later has a name of ours, and so is below /machine/peripheral.
      atStart: String(path).startsWith('/machine/unattached/'),
      type: String(slot.type),
      place: Object.fromEntries(place),
    };
  });
  return slots.toSorted((a, b) => rank(a) - rank(b));
}

const rank = ({ place }: CpuSlot): number =>
  ['socket-id', 'die-id', 'core-id', 'thread-id'].reduce((sum, key) => sum * 4096 + (place[key] ?? 0), 0);

/** Puts CPUs into places until so many are taken. Already so many: success. The guest does not use them yet. */
export async function plugCpus(qmp: Qmp, wanted: number): Promise<void> {
  const slots = await cpuSlots(qmp);
  const missing = wanted - slots.filter(({ taken }) => taken).length;
  const free = slots.filter(({ taken }) => !taken);
  if (missing > free.length) throw new QmpError(`there is room for ${slots.length} CPUs`);
  for (const { type, place } of free.slice(0, Math.max(0, missing)))
    await qmp.execute('device_add', { driver: type, id: `cpu-${Object.values(place).join('-')}`, ...place });
}

/**
 * Linux finds a new CPU by itself, a moment after it came, and leaves it to user space whether it is used
 * (kernel: core-api/cpu_hotplug). A guest's rules may do that first.
 */
const useCpus = `
tries=0
while [ "$(grep -c ^processor /proc/cpuinfo)" -lt "$1" ]; do
  [ $tries -lt 100 ] || { echo "only $(grep -c ^processor /proc/cpuinfo) are in use"; exit 1; }
  tries=$((tries + 1))
  for file in /sys/devices/system/cpu/cpu[0-9]*/online; do
    [ "$(cat "$file")" = 1 ] || echo 1 >"$file"
  done
  sleep 0.1
done`;

/** @returns what the guest says when it does not use so many CPUs; undefined when it does */
export async function bringCpusUp(transport: Pick<Transport, 'exec'>, wanted: number): Promise<string | undefined> {
  const session = await transport.exec({ argv: ['sh', '-c', `exec 2>&1; ${useCpus}`, 'sh', String(wanted)] });
  session.stdin.end();
  session.stderr.resume();
  let said = '';
  session.stdout.setEncoding('utf8').on('data', (text: string) => {
    said = `${said}${text}`.slice(-2000);
  });
  const { code } = await session.exited;
  return code === 0 ? undefined : said.trim();
}
