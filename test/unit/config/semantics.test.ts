// biome-ignore-all lint/suspicious/noTemplateCurlyInString: Tsfiles have ${VAR}
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadProject } from '../../../src/config/index.ts';
import { boxes, failure, folder, headlines, load, machines, mistakes } from './support.ts';

const nets = 'networks:\n  lan: { subnet: 10.5.0.0/29 }\n';

/** What is said about the machines of `body`, without the places. */
const said = async (body: string, before = ''): Promise<string[]> =>
  (await headlines(machines(body, before))).map((line) => line.replace(/^\d+:\d+: /, ''));

describe('networks', () => {
  test.each([
    ['10.5.0.0', '10.5.0.0 is the address of network `lan` itself'],
    ['10.5.0.1', '10.5.0.1 is the gateway of network `lan`'],
    ['10.5.0.7', '10.5.0.7 is the broadcast address of network `lan`'],
    ['10.5.0.8', '10.5.0.8 is outside 10.5.0.0/29 of network `lan`'],
    ['10.5.0.256', '"10.5.0.256" is not an IPv4 address (such as 10.77.1.10)'],
    ['10.5.0.02', '"10.5.0.02" is not an IPv4 address (such as 10.77.1.10)'],
  ])('the address %s is refused', async (address, message) => {
    expect(await said(`  a: { image: d, networks: [{ name: lan, address: ${address} }] }\n`, nets)).toEqual([message]);
  });

  test('the first and last free addresses are fine', async () => {
    const body = ['10.5.0.2', '10.5.0.6']
      .map((address, i) => `  m${i}: { image: d, networks: [{ name: lan, address: ${address} }] }\n`)
      .join('');
    expect((await load(machines(body, nets))).machines).toHaveLength(2);
  });

  test('one address for two machines is refused at the second', async () => {
    const body = ['a', 'b']
      .map((name) => `  ${name}: { image: d, networks: [{ name: lan, address: 10.5.0.2 }] }\n`)
      .join('');
    expect(await headlines(machines(body, nets))).toEqual(['6:51: the address 10.5.0.2 of `b` is already that of `a`']);
  });

  test('a fixed address needs a subnet', async () => {
    expect(await said('  a: { image: d, networks: [{ name: default, address: 10.5.0.2 }] }\n')).toEqual([
      'a fixed address needs a `subnet` on network `default`',
    ]);
  });

  test.each([
    ['10.5.0.9/24', '10.5.0.9/24 is an address inside a subnet, not a subnet'],
    ['127.0.0.0/16', 'the subnet 127.0.0.0/16 lies in 127.0.0.0/8, which no machine can use'],
    ['10.0.0.0/15', '"10.0.0.0/15" is not a subnet (an IPv4 network from /16 to /29, such as 10.77.1.0/24)'],
    ['10.0.0.0/30', '"10.0.0.0/30" is not a subnet (an IPv4 network from /16 to /29, such as 10.77.1.0/24)'],
  ])('the subnet %s is refused', async (subnet, message) => {
    expect(await said('  a: { image: d }\n', `networks: { lan: { subnet: ${subnet} } }\n`)).toEqual([message]);
  });

  test('overlapping subnets are refused at the second', async () => {
    const before = 'networks:\n  a: { subnet: 10.5.0.0/16 }\n  b: { subnet: 10.5.9.0/24 }\n';
    expect(await headlines(machines('  m: { image: d }\n', before))).toEqual([
      '4:16: the subnet 10.5.9.0/24 overlaps 10.5.0.0/16 of network `a`',
    ]);
  });

  test('a subnet that is too small for its machines is refused', async () => {
    expect(await said('  a: { image: d, replicas: 6, networks: [lan] }\n', nets)).toEqual([
      'the subnet 10.5.0.0/29 has 5 addresses for 6 machines',
    ]);
  });

  test('a name that its bridge cannot have, a network listed twice, and an unknown one', async () => {
    expect(await said('  a: { image: d, networks: [lan, lan, wan] }\n', `${nets}  thirteen-char: {}\n`)).toEqual([
      '"thirteen-char" is not a network name (lower-case letters, digits and inner hyphens, at most 12, because the bridge is named after it)',
      'the network `lan` is listed twice',
      'there is no network `wan`',
    ]);
  });
});

describe('forwards', () => {
  const two = (a: string, b: string) =>
    said(`  a: { image: d, forwards: ["${a}"] }\n  b: { image: d, forwards: ["${b}"] }\n`);

  test('two machines cannot have one port of the host; 0.0.0.0 overlaps every address', async () => {
    expect(await two('80:80', '80:81')).toEqual(['port 80 of the host is already forwarded to `a`']);
    expect(await two('80:80', '0.0.0.0:80:81')).toEqual([
      'port 80 of the host is already forwarded to `a` (127.0.0.1 and 0.0.0.0 overlap)',
    ]);
  });

  test('one port on two addresses is fine', async () => {
    expect((await load(machines('  a: { image: d, forwards: ["80:80", "127.0.0.2:80:80"] }\n'))).machines).toHaveLength(
      1,
    );
  });

  test('`ports` is another word for them, checked in the same way, and not beside them', async () => {
    const { machines: found } = await load(machines('  a: { image: d, ports: ["8080:80"] }\n'));
    expect(found.map(({ forwards }) => forwards)).toEqual([
      [{ hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 }],
    ]);
    expect(await said('  a: { image: d, ports: ["80:80", "80:81"] }\n')).toEqual([
      'port 80 of the host is already forwarded to `a`',
    ]);
    expect(await said('  a: { image: d, forwards: ["80:80"], ports: ["81:81"] }\n')).toEqual([
      '`ports` is another name for `forwards`, which is given, too',
    ]);
  });

  test('ports that do not exist and words that are no forward are refused', async () => {
    expect(await said('  a: { image: d, forwards: ["0:80", "70000:80", "80", "53:53/udp"] }\n')).toEqual([
      '0 is no port',
      '70000 is no port',
      '"80" is not a forward (HOST:GUEST or ADDRESS:HOST:GUEST, such as 8080:80 or 0.0.0.0:8080:80)',
      '"53:53/udp" is not a forward (HOST:GUEST or ADDRESS:HOST:GUEST, such as 8080:80 or 0.0.0.0:8080:80)',
    ]);
  });
});

describe('names and replicas', () => {
  test('what only one machine can have is refused for replicas', async () => {
    const body =
      '  a: { image: d, replicas: 2, hostname: x, forwards: ["80:80"], networks: [{ name: lan, address: 10.5.0.2 }] }\n';
    expect(await said(body, nets)).toEqual([
      'one host name cannot be shared by the 2 replicas of `a`',
      'port 80 of the host cannot be shared by the 2 replicas of `a`',
      'one address cannot be shared by the 2 replicas of `a`',
    ]);
  });

  test('a replica cannot be named like a machine or a group', async () => {
    expect(await said('  a: { image: d, replicas: 2 }\n  a-1: { image: d }\n')).toEqual([
      'the name `a-1` is also that of a replica of `a`',
    ]);
    expect(await said('  a-1: { image: d, replicas: 2 }\n  a: { image: d, replicas: 1 }\n')).toEqual([
      'the name `a-1` is also that of a replica of `a`',
    ]);
  });

  test('names that are no DNS labels, mean something else or become too long are refused', async () => {
    const long = 'x'.repeat(62);
    expect(
      await said(
        `  Web_1: { image: d }\n  localhost: { image: d }\n  ${long}: { image: d, replicas: 2 }\n  ../x: { image: d }\n`,
      ),
    ).toEqual([
      '"Web_1" is not a machine name (lower-case letters, digits and inner hyphens, at most 63)',
      'the name `localhost` means the machine itself, in every machine',
      `the names of the replicas of \`${long}\` have more than 63 characters`,
      '"../x" is not a machine name (lower-case letters, digits and inner hyphens, at most 63)',
    ]);
  });
});

describe('dependencies', () => {
  test('a cycle is printed as a chain, at the edge that closes it', async () => {
    const body =
      '  a: { image: d, depends_on: [b] }\n  b: { image: d, depends_on: [c] }\n  c: { image: d, depends_on: [a] }\n  z: { image: d, depends_on: [z] }\n';
    expect(await headlines(machines(body))).toEqual([
      '5:31: machines wait for each other: a -> b -> c -> a',
      '6:31: machines wait for each other: z -> z',
    ]);
  });

  test('a diamond is no cycle', async () => {
    const body =
      '  a: { image: d, depends_on: [b, c] }\n  b: { image: d, depends_on: [e] }\n  c: { image: d, depends_on: [e] }\n  e: { image: d }\n';
    expect((await load(machines(body))).machines).toHaveLength(4);
  });

  test('a replica is not to be depended on alone, and a name not to be listed twice', async () => {
    const [alone, twice] = await mistakes(
      machines('  a: { image: d, replicas: 2 }\n  b: { image: d, depends_on: [a-1, a, a] }\n'),
    );
    expect(alone).toContain('there is no machine `a-1` to depend on');
    expect(alone).toContain('depend on `a`, all of its replicas');
    expect(twice).toContain('`a` is listed twice');
  });

  test('`healthy` needs a healthcheck', async () => {
    expect(await said('  a: { image: d }\n  b: { image: d, depends_on: { a: healthy } }\n')).toEqual([
      '`a` cannot become healthy: it has no `healthcheck`',
    ]);
  });
});

describe('kinds', () => {
  test('exactly one of image and box is needed, and kind must agree', async () => {
    expect(
      await said('  a: {}\n  b: { image: d, box: d }\n  c: { image: d, kind: vm }\n  e: { box: d, kind: vm }\n'),
    ).toEqual([
      '`a` needs `image` or `box`',
      '`b` has `image` and `box`; only one of them can be',
      '`kind: vm` does not agree with `image`',
    ]);
  });

  test('what is not there for a kind is said plainly', async () => {
    expect(
      await said(
        '  a: { image: d, accel: kvm }\n  b: { box: d, share: [], command: x, pids: 5, cpu_shares: 5, io: { read_bps: 1 } }\n',
      ),
    ).toEqual([
      '`accel` is for VMs',
      'sharing folders with a VM is not supported yet',
      '`command` is for containers; a VM runs the system of its box',
      '`pids` is for containers',
      '`cpu_shares` is for containers',
      '`io` is for containers',
    ]);
  });

  test('modes and keys of later versions, and words of other tools, are explained', async () => {
    const all = await mistakes(
      machines('  a: { image: "nginx:1", build: ., synced_folders: [] }\n', 'networks: { x: { mode: routed } }\n'),
    );
    expect(all.map((detail) => detail.split('\n').filter((_, i) => i === 0 || i === 3))).toEqual([
      ['Tsfile.yaml:2:24: networks of mode `routed` are not supported yet', '    use nat or isolated'],
      ['Tsfile.yaml:4:26: unknown key `build`', '    use `image` and `provision`: images are not built yet'],
      ['Tsfile.yaml:4:36: unknown key `synced_folders`', '    use `share`'],
    ]);
  });

  test('memory and CPUs have limits by kind, also when they come from defaults', async () => {
    const body = '  a: { image: d, memory: 3M }\n  b: { box: d }\n  c: { box: d, memory: 127M, cpus: 1 }\n';
    expect(await headlines(machines(body, 'defaults: { memory: 64M, cpus: 0.5 }\n'))).toEqual([
      '2:21: the VM `b` needs at least 128M of memory',
      '2:32: the VM `b` cannot have 0.5 CPUs',
      '4:26: the container `a` needs at least 4M of memory',
      '6:24: the VM `c` needs at least 128M of memory',
    ]);
  });
});

describe('values', () => {
  test('sizes and durations outside of all reason are refused', async () => {
    const body =
      '  a: { image: d, memory: 9999999999999999T, boot_timeout: 25h, stop_timeout: 0s, healthcheck: { exec: x, every: 2 } }\n';
    expect(await said(body)).toEqual([
      'the size 9999999999999999T is larger than any machine',
      '25h is longer than a day',
      '0s is no time at all',
      '`every` must be a text, not 2',
    ]);
  });

  test('an empty value is said to be empty', async () => {
    expect(await said('  a: { image: d, memory: }\n  b:\n')).toEqual(['`memory` is empty', '`b` is empty']);
  });

  test('shares need a place on the host and an absolute one in the machine', async () => {
    const dir = folder({
      'Tsfile.yaml': machines(
        '  a: { image: d, share: [{ host: ., guest: /a }, { host: nope, guest: /a }, { host: ., guest: /proc/x }, { host: "~/x", guest: /b/../c }] }\n',
      ),
    });
    const error = await failure(loadProject(dir, { env: {}, boxes }));
    expect(error.details.map((detail) => detail.split('\n')[0]?.replace(/^.*?: /, ''))).toEqual([
      'nope does not exist',
      'two shares are at /a',
      '/proc/x of a container cannot be replaced by a share',
      '~/x does not exist',
      'the path /b/../c goes through `..`',
    ]);
    expect(error.details[3]).toContain('write ${HOME}');
  });

  test('disks have a name of their own and at least 1M', async () => {
    expect(await said('  a: { box: d, disks: [{ name: x, size: 1M }, { name: x, size: 1000K }] }\n')).toEqual([
      'two disks are named `x`',
      'a disk has at least 1M',
    ]);
  });

  test("a container's disks have a place where nothing else is, and room for a journal", async () => {
    const disks = [
      '{ name: a, size: 8M, mount: /data }',
      '{ name: b, size: 8191K, mount: /data/ }',
      '{ name: c, size: 1G }',
      '{ name: d, size: 1G, mount: /site }',
      '{ name: e, size: 1G, mount: /run }',
      '{ name: f, size: 1G, mount: /dev/shm }',
      '{ name: g, size: 1G, mount: / }',
      '{ name: h, size: 1G, mount: data }',
      '{ name: i, size: 1G, mount: /i, fs: xfs }',
      '{ name: j, size: 1G, mount: /data/below }',
    ].join(', ');
    expect(
      await said(`  a: { image: d, share: [{ host: ., guest: /site }], tmpfs: [/run], disks: [${disks}] }\n`),
    ).toEqual([
      'a disk of a container has at least 8M',
      'two disks are at /data',
      'the disk `c` of a container needs `mount`',
      'a share is at /site, too',
      'a folder in memory is at /run, too',
      '/dev/shm of a container cannot be replaced by a disk',
      '/ of a container cannot be replaced by a disk',
      '"data" is not an absolute path in the machine (it starts with /)',
      '`fs` cannot be "xfs"',
    ]);
  });

  test('what is only for disks of containers is said of a VM', async () => {
    expect(await said('  a: { box: d, disks: [{ name: x, size: 1M, mount: /data, fs: ext4, keep: true }] }\n')).toEqual(
      ['mount', 'fs', 'keep'].map((key) => `\`${key}\` is for disks of containers`),
    );
  });

  test("a container's disks are read with what is left out left out", async () => {
    const body =
      '  a: { image: d, disks: [{ name: x, size: 1.5G, mount: /x//y/., keep: true, fs: ext4 }, { name: z, size: 8M, mount: /z, keep: false }] }\n';
    expect((await load(machines(body))).machines[0]?.disks).toEqual([
      { name: 'x', sizeBytes: 1.5 * 2 ** 30, mount: '/x/y', keep: true },
      { name: 'z', sizeBytes: 8 * 2 ** 20, mount: '/z' },
    ]);
  });
});

describe('provisioning', () => {
  const steps = (text: string) => said(`  a: { image: d, provision: [${text}] }\n`);

  test('a step is a shell or a file, with a name of its own and options in one place', async () => {
    expect(
      await steps(
        '{ run: once }, { name: x, shell: { inline: a, args: [b] }, args: [c] }, { name: x, shell: { inline: a, path: b } }, { file: { source: ., destination: /x }, env: {} }, { shell: { inline: a }, cwd: x }',
      ),
    ).toEqual([
      'an item of `provision` needs `shell` or `file`',
      '`args` is given twice, in `shell` and beside it',
      'two steps are named `x`',
      '`shell` has `path` and `inline`; only one of them can be',
      'the script b does not exist',
      '`env` is for `shell` steps; this one is a `file`',
      '"x" is not an absolute path in the machine (it starts with /)',
    ]);
  });

  test('a mode is read in octal, quoted or not', async () => {
    const modes = async (mode: string) =>
      (
        await load(
          machines(`  a: { image: d, provision: [{ file: { source: ., destination: /x, mode: ${mode} } }] }\n`),
        )
      ).machines[0]?.provision[0];
    for (const written of ['0644', '"0644"', '644', '0o644'])
      expect(await modes(written)).toMatchObject({ mode: 0o644 });
    expect(
      await steps(
        '{ file: { source: ., destination: /x, mode: 999 } }, { file: { source: ., destination: /x, mode: u+x } }',
      ),
    ).toEqual(['999 is not a file mode (octal, such as 0644)', '"u+x" is not a file mode (octal, such as 0644)']);
  });

  test('scripts and sources that cannot be read are mistakes at their place', async () => {
    const dir = folder();
    mkdirSync(join(dir, 'sub'));
    symlinkSync('loop', join(dir, 'loop'));
    symlinkSync('/dev/null', join(dir, 'sub/device'));
    const items = [
      '{ shell: sub }',
      '{ shell: loop }',
      '{ shell: /dev/null }',
      '{ file: { source: none/x, destination: /x } }',
      '{ file: { source: sub, destination: /x } }',
    ];
    writeFileSync(
      join(dir, 'Tsfile.yaml'),
      machines(`  a:\n    image: d\n    provision:\n${items.map((item) => `      - ${item}\n`).join('')}`),
    );
    const error = await failure(loadProject(dir, { env: {}, boxes }));
    expect(error.details.map((detail) => detail.split('\n')[0])).toEqual([
      'Tsfile.yaml:6:18: the script sub is a folder, not a file',
      'Tsfile.yaml:7:18: the script loop is a symbolic link that leads in a circle',
      'Tsfile.yaml:8:18: the script /dev/null is neither a file nor a folder',
      'Tsfile.yaml:9:27: the source none/x does not exist',
    ]);
  });
});
