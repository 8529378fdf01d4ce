import type { OciResources, OciThrottle } from '../oci/spec.ts';
import { isSet, orMax, unsigned } from './numbers.ts';
import { type Impossible, type Setting, type Write, write } from './setting.ts';

/* Block devices, huge pages, network and RDMA: the rest of settings.ts. */

type BlockIo = NonNullable<OciResources['blockIO']>;
type WeightDevice = NonNullable<BlockIo['weightDevice']>[number];

const throttles = [
  ['throttleReadBpsDevice', 'read_bps', 'rbps'],
  ['throttleWriteBpsDevice', 'write_bps', 'wbps'],
  ['throttleReadIOPSDevice', 'read_iops', 'riops'],
  ['throttleWriteIOPSDevice', 'write_iops', 'wiops'],
] as const;

const controller = 'blkio';
const at = (name: string) => `linux.resources.blockIO.${name}`;
const device = ({ major, minor }: { major: number; minor: number }) => `${major}:${minor}`;

/** The weights are those of the scheduler CFQ, which is gone, or of BFQ, whose files have names of their own. */
export function blockIoV1(blockIo: BlockIo): Setting[] {
  const either = (field: string, name: string, value: string): Write => ({
    controller,
    field,
    writes: [`blkio.${name}`, `blkio.bfq.${name}`].map((file) => ({ file, value })),
  });
  const result: Setting[] = [];
  if (isSet(blockIo.weight)) result.push(either(at('weight'), 'weight', `${blockIo.weight}`));
  if (isSet(blockIo.leafWeight)) result.push(either(at('leafWeight'), 'leaf_weight', `${blockIo.leafWeight}`));
  weights(blockIo, (entry, field, name) => {
    const value = `${device(entry)} ${entry[name]}`;
    result.push(either(field, name === 'weight' ? 'weight_device' : 'leaf_weight_device', value));
  });
  eachThrottle(blockIo, (entry, field, [, file]) => {
    const value = `${device(entry)} ${unsigned(entry.rate)}`;
    result.push(write(controller, field, `blkio.throttle.${file}_device`, value));
  });
  return result;
}

export function blockIoV2(blockIo: BlockIo): Setting[] {
  const weight = (field: string, prefix: string, value: number): Write => ({
    controller,
    field,
    writes: [
      { file: 'io.bfq.weight', value: `${prefix}${value}` },
      { file: 'io.weight', value: `${prefix}${ioWeight(value)}` },
    ],
  });
  const noLeaf = (field: string): Impossible => ({ controller, field, impossible: 'cgroup v2 has no leaf weights' });
  const result: Setting[] = [];
  if (isSet(blockIo.weight)) result.push(weight(at('weight'), '', blockIo.weight));
  if (isSet(blockIo.leafWeight)) result.push(noLeaf(at('leafWeight')));
  weights(blockIo, (entry, field, name) => {
    result.push(name === 'leafWeight' ? noLeaf(field) : weight(field, `${device(entry)} `, entry.weight ?? 0));
  });
  eachThrottle(blockIo, (entry, field, [, , key]) => {
    // v1 lifts a limit with 0, v2 with max.
    const value = `${device(entry)} ${key}=${entry.rate === 0 ? 'max' : unsigned(entry.rate)}`;
    result.push(write(controller, field, 'io.max', value));
  });
  return result;
}

function weights(
  { weightDevice = [] }: BlockIo,
  visit: (entry: WeightDevice, field: string, name: 'weight' | 'leafWeight') => void,
): void {
  weightDevice.forEach((entry, i) => {
    for (const name of ['weight', 'leafWeight'] as const)
      if (isSet(entry[name])) visit(entry, at(`weightDevice[${i}].${name}`), name);
  });
}

function eachThrottle(
  blockIo: BlockIo,
  visit: (entry: OciThrottle, field: string, names: (typeof throttles)[number]) => void,
): void {
  for (const names of throttles)
    (blockIo[names[0]] ?? []).forEach((entry, i) => {
      visit(entry, at(`${names[0]}[${i}].rate`), names);
    });
}

/** A weight of 10 … 1000 (blkio) as one of 1 … 10000 (io.weight), linearly, as runc does it. */
export function ioWeight(weight: number): number {
  const inRange = Math.min(Math.max(weight, 10), 1000);
  return 1 + Math.floor(((inRange - 10) * 9999) / 990);
}

type HugepageLimits = NonNullable<OciResources['hugepageLimits']>;

/** Reservations are limited too, where the kernel counts them (since 5.7). */
function hugepages(limits: HugepageLimits, ending: string, print: (limit: number) => string): Setting[] {
  return limits.flatMap(({ pageSize, limit }, i): Setting[] => {
    const field = `linux.resources.hugepageLimits[${i}]`;
    // It becomes part of a file's name.
    if (!/^\d+[KMG]B$/.test(pageSize))
      return [{ controller: 'hugetlb', field, impossible: `'${pageSize}' is no page size such as 2MB` }];
    return [
      write('hugetlb', field, `hugetlb.${pageSize}.${ending}`, print(limit)),
      write('hugetlb', field, `hugetlb.${pageSize}.rsvd.${ending}`, print(limit), { optional: true }),
    ];
  });
}

export const hugepagesV1 = (limits: HugepageLimits): Setting[] => hugepages(limits, 'limit_in_bytes', unsigned);
export const hugepagesV2 = (limits: HugepageLimits): Setting[] => hugepages(limits, 'max', orMax);

/** v1 only: cgroup v2 marks no packets, it lets eBPF programs look at the cgroup. */
export function networkClass({ network }: OciResources): Setting[] {
  return isSet(network?.classID)
    ? [write('net_cls', 'linux.resources.network.classID', 'net_cls.classid', unsigned(network.classID))]
    : [];
}

export function networkPriorities({ network }: OciResources): Setting[] {
  return (network?.priorities ?? []).map(({ name, priority }, i) => {
    const field = `linux.resources.network.priorities[${i}]`;
    return write('net_prio', field, 'net_prio.ifpriomap', `${name} ${unsigned(priority)}`);
  });
}

/** rdma.max has a line per device (kernel: admin-guide/cgroup-v1/rdma.rst); both versions have the file. */
export function rdma({ rdma = {} }: OciResources): Setting[] {
  return Object.entries(rdma).map(([name, { hcaHandles, hcaObjects }]) =>
    write(
      'rdma',
      `linux.resources.rdma[${JSON.stringify(name)}]`,
      'rdma.max',
      [
        name,
        ...(hcaHandles === undefined ? [] : [`hca_handle=${unsigned(hcaHandles)}`]),
        ...(hcaObjects === undefined ? [] : [`hca_object=${unsigned(hcaObjects)}`]),
      ].join(' '),
    ),
  );
}
