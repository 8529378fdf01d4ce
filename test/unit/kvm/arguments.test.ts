import { describe, expect, test } from 'vitest';
import { type QemuSpec, qemuArguments } from '../../../providers/kvm/arguments.ts';
import { hasGoodRings } from '../../../providers/kvm/start.ts';
import { tapName } from '../../../providers/kvm/tap.ts';

const spec: QemuSpec = {
  binary: 'qemu-system-x86_64',
  name: 'shop/db',
  processName: 'tsv-db',
  uuid: '11111111-2222-4333-8444-555555555555',
  accel: 'tcg',
  cpus: 2,
  mostCpus: 4,
  memoryBytes: 768 * 1024 * 1024,
  boot: { kernel: '/store/kernel', initrd: '/store/initrd', cmdline: 'root=/dev/vda rw console=ttyS0' },
  disks: [
    { path: '/p/.ts-vm/machines/db/disk.qcow2', format: 'qcow2' },
    { path: '/p/.ts-vm/machines/db/disks/data.qcow2', format: 'qcow2', serial: 'data' },
  ],
  nics: [
    { mac: '52:54:00:00:00:01', backend: { type: 'tap', ifname: 't0123456789-0' } },
    { mac: '52:54:00:00:00:02', backend: { type: 'tap', ifname: 't0123456789-1' } },
  ],
  smbiosStrings: ['/p/.ts-vm/machines/db/credentials/tmpfiles.extra'],
  balloon: true,
  incoming: false,
  ring: false,
  console: { path: '/run/tsv/db/console.sock' },
  qmp: { path: '/run/tsv/db/qmp.sock' },
  guest: { path: '/run/tsv/db/guest.sock' },
};

/** One line per option: `-name value`. */
function lines(argv: readonly string[]): string[] {
  const all: string[] = [];
  for (const word of argv.slice(1)) {
    if (word.startsWith('-')) all.push(word);
    else all.push(`${all.pop()} ${word}`);
  }
  return all;
}

const valuesOf = (argv: readonly string[], option: string): (string | undefined)[] =>
  argv.flatMap((word, index) => (word === option ? [argv[index + 1]] : []));

describe('the QEMU command line', () => {
  test('of a machine with two disks and two networks is this one', () => {
    expect(lines(qemuArguments(spec))).toMatchInlineSnapshot(`
      [
        "-name guest=shop/db,process=tsv-db",
        "-nodefaults",
        "-no-user-config",
        "-display none",
        "-vga none",
        "-S",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine q35,usb=off,vmport=off,hpet=off,dump-guest-core=off,memory-backend=ram",
        "-object memory-backend-ram,id=ram,size=768M",
        "-accel tcg,thread=multi",
        "-cpu max,erms=off",
        "-smp cpus=2,maxcpus=4",
        "-m 768M",
        "-uuid 11111111-2222-4333-8444-555555555555",
        "-kernel /store/kernel",
        "-initrd /store/initrd",
        "-append root=/dev/vda rw console=ttyS0",
        "-blockdev driver=qcow2,node-name=disk0,discard=unmap,file.driver=file,file.filename=/p/.ts-vm/machines/db/disk.qcow2,file.locking=on,file.discard=unmap",
        "-device virtio-blk-pci,drive=disk0,addr=0x2",
        "-blockdev driver=qcow2,node-name=disk1,discard=unmap,file.driver=file,file.filename=/p/.ts-vm/machines/db/disks/data.qcow2,file.locking=on,file.discard=unmap",
        "-device virtio-blk-pci,drive=disk1,addr=0x10,serial=data",
        "-netdev tap,id=net0,ifname=t0123456789-0,script=no,downscript=no",
        "-device virtio-net-pci,netdev=net0,mac=52:54:00:00:00:01,romfile=,addr=0x8",
        "-netdev tap,id=net1,ifname=t0123456789-1,script=no,downscript=no",
        "-device virtio-net-pci,netdev=net1,mac=52:54:00:00:00:02,romfile=,addr=0x9",
        "-object rng-random,id=rng0,filename=/dev/urandom",
        "-device virtio-rng-pci,rng=rng0,addr=0x3",
        "-chardev socket,id=console,path=/run/tsv/db/console.sock,server=on,wait=off",
        "-serial chardev:console",
        "-chardev socket,id=qmp,path=/run/tsv/db/qmp.sock,server=on,wait=off",
        "-mon chardev=qmp,mode=control",
        "-chardev socket,id=guest,path=/run/tsv/db/guest.sock,server=on,wait=off",
        "-device virtio-serial-pci,addr=0x4",
        "-device virtserialport,chardev=guest,name=tsv",
        "-smbios type=11,path=/p/.ts-vm/machines/db/credentials/tmpfiles.extra",
        "-device virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on,addr=0x5",
      ]
    `);
  });

  test('uses the host CPU with KVM', () => {
    const argv = qemuArguments({ ...spec, accel: 'kvm' });
    expect(valuesOf(argv, '-accel')).toEqual(['kvm']);
    expect(valuesOf(argv, '-cpu')).toEqual(['host']);
  });

  test('reads and writes disks through io_uring where that is asked for', () => {
    const disks = (ring: boolean) => valuesOf(qemuArguments({ ...spec, ring }), '-blockdev');
    expect(disks(true)).toEqual([
      expect.stringContaining('file.aio=io_uring'),
      expect.stringContaining('file.aio=io_uring'),
    ]);
    expect(disks(false).join()).not.toContain('aio');
  });

  test.each([
    ['6.1.0-56-cloud-amd64', true],
    ['6.18.44', true],
    ['7.0', true],
    ['6.0.19', false],
    ['5.15.0-100-generic', false],
    ['', false],
  ])('asks for it on Linux %s: %s', (release, good) => {
    expect(hasGoodRings(release)).toBe(good);
  });

  test('has no kernel options when the box has no kernel', () => {
    const { boot: _, ...firmware } = spec;
    expect(qemuArguments(firmware).filter((word) => ['-kernel', '-initrd', '-append'].includes(word))).toEqual([]);
  });

  test('doubles commas in paths and names, so that a path cannot add an option', () => {
    const argv = qemuArguments({
      ...spec,
      name: 'shop,process=init/db',
      disks: [{ path: '/a,file.locking=off/b,c', format: 'raw' }],
      smbiosStrings: ['/s,value=x'],
      console: { path: '/c,server=off' },
      qmp: { path: '/q,path=/tmp/x' },
    });
    expect(valuesOf(argv, '-name')).toEqual(['guest=shop,,process=init/db,process=tsv-db']);
    expect(valuesOf(argv, '-blockdev')[0]).toContain(',file.filename=/a,,file.locking=off/b,,c,');
    expect(valuesOf(argv, '-smbios')).toEqual(['type=11,path=/s,,value=x']);
    expect(valuesOf(argv, '-chardev')).toEqual([
      'socket,id=console,path=/c,,server=off,server=on,wait=off',
      'socket,id=qmp,path=/q,,path=/tmp/x,server=on,wait=off',
      'socket,id=guest,path=/run/tsv/db/guest.sock,server=on,wait=off',
    ]);
  });

  test('leaves commas of kernel, initrd and command line alone, which are no option lists', () => {
    const argv = qemuArguments({
      ...spec,
      boot: { kernel: '/k,1', initrd: '/i,1', cmdline: 'earlyprintk=serial,ttyS0' },
    });
    expect(['-kernel', '-initrd', '-append'].flatMap((option) => valuesOf(argv, option))).toEqual([
      '/k,1',
      '/i,1',
      'earlyprintk=serial,ttyS0',
    ]);
  });

  test('says the format of every disk (S37) and the sandbox denies every group (S41)', () => {
    const argv = qemuArguments({ ...spec, disks: [{ path: '/d', format: 'raw' }] });
    expect(valuesOf(argv, '-blockdev')[0]).toMatch(/^driver=raw,/);
    expect(argv).not.toContain('-drive');
    expect(valuesOf(argv, '-sandbox')).toEqual([
      'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny',
    ]);
  });

  test('rounds memory up to whole mebibytes', () => {
    expect(valuesOf(qemuArguments({ ...spec, memoryBytes: 100_000_000 }), '-m')).toEqual(['96M']);
  });
});

describe('tap names', () => {
  test('fit into an interface name and differ by machine and attachment', () => {
    const machines = [...Array(200).keys()].flatMap((n) => [
      `web-${n}`,
      `a-machine-with-a-name-as-long-as-a-dns-label-may-be-which-is-63-${n}`,
    ]);
    const names = machines.flatMap((machine) => [0, 1, 7].map((index) => tapName(machine, index)));
    expect(new Set(names).size).toBe(names.length);
    expect(Math.max(...names.map((name) => Buffer.byteLength(name)))).toBeLessThanOrEqual(15);
    expect(names.filter((name) => !/^[A-Za-z][A-Za-z0-9-]*$/.test(name))).toEqual([]);
  });

  test('are the same every time', () => {
    expect(tapName('db', 1)).toBe(tapName('db', 1));
  });
});
