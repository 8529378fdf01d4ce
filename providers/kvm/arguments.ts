/** All that decides a QEMU command line. Paths are absolute. */
export interface QemuSpec {
  readonly binary: string;
  /** Project and machine, for `ps` and for the guest's firmware tables. */
  readonly name: string;
  /** What `ps` shows as the command: 15 bytes at most are kept by the kernel (prctl(2), PR_SET_NAME). */
  readonly processName: string;
  readonly uuid: string;
  /** Absent: QEMU's newest q35. */
  readonly machineType?: string;
  readonly accel: 'kvm' | 'tcg';
  readonly cpus: number;
  /** Places for CPUs, of which the last may be taken while it runs. */
  readonly mostCpus: number;
  readonly memoryBytes: number;
  /** A file that the memory is mapped from: `shared`, so that the file is the memory, or privately, so that it stays as it is. */
  readonly memoryFile?: { readonly path: string; readonly shared: boolean };
  /** false: without the balloon, through which a guest can make QEMU discard memory, and with it a `memoryFile`'s pages. */
  readonly balloon: boolean;
  /** It does not boot: it waits for `migrate-incoming` to say where the state of its devices is. */
  readonly incoming: boolean;
  /** Direct kernel boot; absent: the firmware boots the first disk. */
  readonly boot?: { readonly kernel: string; readonly initrd?: string; readonly cmdline: string };
  /** virtio-blk, in the order vda, vdb, … */
  readonly disks: readonly DiskSpec[];
  /** They are read and written through io_uring(7). QEMU ends at once, and says so, where it cannot have one. */
  readonly ring: boolean;
  /** virtio-net, in the order eth0, eth1, … */
  readonly nics: readonly NicSpec[];
  /** Files that each hold one SMBIOS type 11 string, e.g. `io.systemd.credential:NAME=VALUE`. */
  readonly smbiosStrings: readonly string[];
  readonly console: Channel;
  readonly qmp: Channel;
  /** The way to the box's own program in the guest: guest.ts. */
  readonly guest: Channel;
}

/** A socket that QEMU listens on, or an inherited one that is connected. */
export type Channel = { readonly path: string } | { readonly fd: number };

export interface DiskSpec {
  /** Of `empty`: nothing. */
  readonly path: string;
  /** `empty`: of this many bytes, none of which is ever written or read. */
  readonly format: 'raw' | 'qcow2' | 'empty';
  readonly bytes?: number;
  /** Seen in the guest as /dev/disk/by-id/virtio-SERIAL: see {@link diskSerial}. */
  readonly serial?: string;
}

/** What virtio-blk keeps of a serial: 20 bytes. */
export const diskSerial = (serial: string): string => serial.slice(0, 20);

export interface NicSpec {
  readonly mac: string;
  readonly backend: NicBackend;
}

export type NicBackend =
  /** An existing tap in QEMU's network namespace; `fd`: that was opened for it. */
  | { readonly type: 'tap'; readonly ifname: string; readonly fd?: number }
  /** QEMU's own user-mode network, cut off from everything but one forward. Needs no rights; slow. */
  | { readonly type: 'user'; readonly hostPort?: number; readonly guestPort?: number };

/** A value inside a comma-separated QEMU option: each comma doubled (qemu(1), "any comma must be doubled"). */
export const escapeValue = (value: string): string => value.replaceAll(',', ',,');

/** `driver,key=value,…` with every value escaped. */
function option(head: string, properties: Readonly<Record<string, string | number>> = {}): string {
  const rest = Object.entries(properties).map(([key, value]) => `${key}=${escapeValue(String(value))}`);
  return [head, ...rest].filter((part) => part !== '').join(',');
}

const channel = (id: string, channel: Channel): string =>
  option('socket', 'path' in channel ? { id, path: channel.path, server: 'on', wait: 'off' } : { id, fd: channel.fd });
/**
 * Of the CPU, the devices below and their places: a memory that was saved goes on with no others. It grows with each change of
 * them that a guest can see.
 */
export const deviceLayout = 2;

/** QEMU's name for the balloon. */
export const balloonId = 'balloon';

const mebibyte = 1024 * 1024;

/**
 * The whole argv of a machine's QEMU. Pure.
 * The CPUs do not run yet (`-S`): the caller attaches console and QMP first, then sends `cont`, so that
 * nothing that the guest prints is lost. Secrets are never in it, only the paths of their files.
 */
export function qemuArguments(spec: QemuSpec): string[] {
  return [
    spec.binary,
    ...['-name', option('', { guest: spec.name, process: spec.processName.slice(0, 15) })],
    // Nothing but what is listed here: no default devices, no files from /etc or $HOME.
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-vga', 'none', '-S'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...machineArguments(spec),
    ...bootArguments(spec),
    ...spec.disks.flatMap((disk, index) => diskArguments(disk, index, spec)),
    ...spec.nics.flatMap(nicArguments),
    ...['-object', 'rng-random,id=rng0,filename=/dev/urandom'],
    ...['-device', option('virtio-rng-pci', { rng: 'rng0', addr: hex(slots.entropy) })],
    ...['-chardev', channel('console', spec.console), '-serial', 'chardev:console'],
    ...['-chardev', channel('qmp', spec.qmp)],
    ...['-mon', 'chardev=qmp,mode=control'],
    ...['-chardev', channel('guest', spec.guest)],
    ...['-device', option('virtio-serial-pci', { addr: hex(slots.serial) })],
    ...['-device', option('virtserialport', { chardev: 'guest', name: guestPort })],
    ...spec.smbiosStrings.flatMap((path) => ['-smbios', option('type=11', { path })]),
    ...(spec.balloon ? balloonArguments : []),
    ...(spec.incoming ? ['-incoming', 'defer'] : []),
  ];
}

/** The port's name in the guest: /dev/virtio-ports/tsv. */
export const guestPort = 'tsv';

/**
 * Places on the PCI bus. Each device has its own, whatever others there are: the state of a machine can be taken over by a
 * QEMU that was started with the same devices, and they are recognised by their places. 0 and 31 are of the board.
 */
const slots = { disk: 2, entropy: 3, serial: 4, balloon: 5, nics: 8, dataDisks: 16 } as const;
/** What there is room for, beside the first disk. */
export const mostNics = slots.dataDisks - slots.nics;
export const mostDataDisks = 31 - slots.dataDisks;

const hex = (slot: number): string => `0x${slot.toString(16)}`;

// Through it the guest gives memory back; it takes some again rather than kill a process for want of it.
const balloonArguments = [
  '-device',
  option('virtio-balloon-pci', {
    id: balloonId,
    'deflate-on-oom': 'on',
    'free-page-reporting': 'on',
    addr: hex(slots.balloon),
  }),
];

/** Machine type, accelerator, CPUs, memory. */
function machineArguments(spec: QemuSpec): string[] {
  const memoryMebibytes = Math.ceil(spec.memoryBytes / mebibyte);
  return [
    // No emulated VMware port, no HPET: nothing of a Linux guest needs them, and each costs boot time.
    ...['-machine', `${spec.machineType ?? 'q35'},usb=off,vmport=off,hpet=off,dump-guest-core=off,memory-backend=ram`],
    ...['-object', memoryBackend(spec.memoryFile, memoryMebibytes)],
    ...['-accel', spec.accel === 'kvm' ? 'kvm' : 'tcg,thread=multi'],
    // An emulated `rep movsb` copies byte by byte: a kernel that is not told that it is fast copies in words, and boots in 9/10 of the time.
    ...['-cpu', spec.accel === 'kvm' ? 'host' : 'max,erms=off'],
    ...[
      '-smp',
      option('', { cpus: spec.cpus, maxcpus: spec.mostCpus }),
      '-m',
      `${memoryMebibytes}M`,
      '-uuid',
      spec.uuid,
    ],
  ];
}

function memoryBackend(file: QemuSpec['memoryFile'], mebibytes: number): string {
  const size = { id: 'ram', size: `${mebibytes}M` };
  return file === undefined
    ? option('memory-backend-ram', size)
    : option('memory-backend-file', { ...size, 'mem-path': file.path, share: file.shared ? 'on' : 'off' });
}

function bootArguments({ boot }: QemuSpec): string[] {
  if (boot === undefined) return [];
  // These three are whole arguments, not option lists: commas stay single.
  return [
    ...['-kernel', boot.kernel],
    ...(boot.initrd === undefined ? [] : ['-initrd', boot.initrd]),
    ...['-append', boot.cmdline],
  ];
}

/**
 * The format is always said, never guessed from the first bytes, which the guest can write (CVE-2013-1922).
 * Host page cache with flushes honoured: survives a killed QEMU and, as far as the guest flushes, a power cut.
 */
function diskArguments(disk: DiskSpec, index: number, { boot, ring }: QemuSpec): string[] {
  const node = `disk${index}`;
  const bootFrom = boot === undefined && index === 0;
  return [
    '-blockdev',
    disk.format === 'empty'
      ? option('', { driver: 'null-co', 'node-name': node, size: disk.bytes ?? 0 })
      : option('', {
          driver: disk.format,
          'node-name': node,
          discard: 'unmap',
          'file.driver': 'file',
          ...(ring ? { 'file.aio': 'io_uring' } : {}),
          'file.filename': disk.path,
          'file.locking': 'on',
          'file.discard': 'unmap',
        }),
    '-device',
    option('virtio-blk-pci', {
      drive: node,
      addr: hex(index === 0 ? slots.disk : slots.dataDisks + index - 1),
      ...(disk.serial === undefined ? {} : { serial: diskSerial(disk.serial) }),
      ...(bootFrom ? { bootindex: 0 } : {}), // with -kernel the place is taken: QEMU would refuse
    }),
  ];
}

function nicArguments(nic: NicSpec, index: number): string[] {
  const id = `net${index}`;
  return [
    ...['-netdev', netdev(id, nic.backend)],
    // No option ROM: nothing boots from the network, and loading it costs boot time.
    ...['-device', option('virtio-net-pci', { netdev: id, mac: nic.mac, romfile: '', addr: hex(slots.nics + index) })],
  ];
}

function netdev(id: string, backend: NicBackend): string {
  switch (backend.type) {
    case 'tap':
      return backend.fd === undefined
        ? option('tap', { id, ifname: backend.ifname, script: 'no', downscript: 'no' })
        : option('tap', { id, fd: backend.fd });
    case 'user': {
      const forward =
        backend.hostPort === undefined
          ? {}
          : { hostfwd: `tcp:127.0.0.1:${backend.hostPort}-:${backend.guestPort ?? 22}` };
      return option('user', { id, restrict: 'on', ...forward });
    }
  }
}
