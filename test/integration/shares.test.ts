import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, type TestContext } from 'vitest';
import { isolationOf, type Machine, type Share } from '../../src/model/project.ts';
import { readXattr } from '../../src/sys/xattr.ts';
import { type Container, containerTests, skip } from '../support/containers.ts';

/* Folders of the host in containers: who owns what, on either side. */

const { test, lab } = containerTests(import.meta.filename);

/** A user of the host who is neither root nor known to it. */
const somebody = 54321;

const needRoot = (context: TestContext): void => {
  if (!lab().map.rooted) skip(context, 'needs root: id maps of mounts');
};

/** A folder that everybody on the host gets at, or only who runs the test. */
function folder(owner?: number, { open = false }: { open?: boolean } = {}): string {
  const parent = open ? realpathSync(mkdtempSync(join(tmpdir(), 'tsv-share-'))) : mkdtempSync(join(lab().folder, 's-'));
  onTestFinished(() => rmSync(parent, { recursive: true, force: true }));
  if (open) chmodSync(parent, 0o755);
  const made = join(parent, 'shared');
  mkdirSync(made, { mode: 0o755 });
  if (owner !== undefined) chownSync(made, owner, owner);
  return made;
}

async function started(share: Partial<Share> & { host: string }, machine: Partial<Machine> = {}): Promise<Container> {
  const container = lab().container({
    machine: { shares: [{ guest: '/s', readonly: false, ...share }], ...machine },
  });
  onTestFinished(() => container.destroy());
  await container.start();
  return container;
}

/** What a start had to say of the share; there may be more, of limits. */
const said = ({ notices }: Container): readonly string[] => notices.filter((text) => text.startsWith('/s '));

describe('a share', () => {
  test('S20 belongs to root inside: what it makes there is the owner’s outside, and the other way round', async () => {
    const rooted = lab().map.rooted;
    const host = folder(rooted ? somebody : undefined);
    const owner = statSync(host).uid;
    writeFileSync(join(host, 'outside'), 'private', { mode: 0o600 });
    if (rooted) chownSync(join(host, 'outside'), owner, owner);
    const container = await started({ host });
    expect(said(container)).toEqual([]);
    const inside = [
      'umask 022; stat -c "%u:%g %a %n" /s /s/outside; cat /s/outside; echo',
      'echo changed > /s/outside; chmod 640 /s/outside',
      'mkdir /s/made && echo inside > /s/made/file && chown 33:33 /s/made/file && chown 0:0 /s/made/file && echo whole',
      'ln -s /etc/shadow /s/link; mv /s/made/file /s/made/moved',
    ];
    expect(await container.sh(inside.join('\n'))).toBe('0:0 755 /s\n0:0 600 /s/outside\nprivate\nwhole');
    for (const name of ['outside', 'made', 'made/moved']) {
      const { uid, gid } = statSync(join(host, name));
      expect({ name, uid, gid }).toEqual({ name, uid: owner, gid: statSync(host).gid });
    }
    expect(statSync(join(host, 'outside')).mode & 0o777).toBe(0o640);
    expect(readFileSync(join(host, 'outside'), 'utf8')).toBe('changed\n');
  });

  test('S20 has files of other users of the container, who are nobody outside; those of other users outside are nobody’s inside', async (context) => {
    needRoot(context);
    const host = folder(somebody);
    writeFileSync(join(host, 'of-root'), 'secret', { mode: 0o600 });
    writeFileSync(join(host, 'open'), 'open', { mode: 0o666 });
    const container = await started({ host });
    expect(await container.sh('touch /s/f; chown 1234:999 /s/f; stat -c %u:%g /s/f /s/of-root')).toBe(
      '1234:999\n65534:65534',
    );
    expect(statSync(join(host, 'f')).uid).toBe(lab().idOutside(1234));
    expect(statSync(join(host, 'f')).gid).toBe(lab().idOutside(999));
    expect(await container.sh('cat /s/of-root; chown 0:0 /s/of-root; chmod 777 /s/of-root; echo x > /s/open')).toMatch(
      /Permission denied[\s\S]*(not permitted|Invalid|too large)[\s\S]*/,
    );
    expect(statSync(join(host, 'of-root'))).toMatchObject({ uid: 0, mode: 0o100600 });
    expect(readFileSync(join(host, 'open'), 'utf8')).toBe('open');
  });

  test('belongs to the user of the machine, or to whom the Tsfile says', async (context) => {
    needRoot(context);
    const host = folder(somebody);
    const user = { isolation: { ...isolationOf({}), user: { user: 'tsv' } } };
    const own = await started({ host }, user);
    expect(await own.sh('stat -c %U:%G /s; echo text > /s/mine', { user: 'tsv' })).toBe('tsv:tsv');
    expect(statSync(join(host, 'mine'))).toMatchObject({ uid: somebody, gid: somebody });
    const said = await started({ host, uid: 33 }, user);
    expect(await said.sh('stat -c %U:%G /s')).toBe('www-data:www-data');
    const both = await started({ host, uid: 0, gid: 8 }, user);
    expect(await both.sh('stat -c %U:%G /s /s/mine')).toBe('root:mail\nroot:mail');
  });

  test('of an ordinary user can belong to root inside only, and is refused before anything is made', async () => {
    const { provider, map } = lab();
    const machine = (uid: number) =>
      lab().container({ machine: { shares: [{ host: '/tmp', guest: '/s', readonly: false, uid }] } }).context.machine;
    expect(provider.validate(machine(0))).toEqual([]);
    expect(provider.validate(machine(1000))).toEqual(
      map.rooted ? [] : [expect.stringContaining('the share at /s can belong to 1000:0 only where tsv runs as root')],
    );
  });

  test('that can have no owners is refused with its place when it is to be written, and can be read', async (context) => {
    needRoot(context);
    const host = '/sys/kernel';
    const container = lab().container({ machine: { shares: [{ host, guest: '/s', readonly: false, uid: 0 }] } });
    await expect(container.start()).rejects.toMatchObject({
      code: 'TSV_CONTAINER_START',
      details: expect.arrayContaining([
        expect.stringContaining(`the file system of ${host} has no idmapped mounts: EINVAL`),
      ]),
    });
    expect(lab().cgroupFolders(container.context.machine.name)).toEqual([]);
    await container.destroy();
    expect(await (await started({ host })).sh('ls /s | wc -l')).not.toBe('0');
  });

  test('that is not there is named', async () => {
    const host = folder();
    const container = lab().container({ machine: { shares: [{ host, guest: '/s', readonly: false }] } });
    rmSync(host, { recursive: true });
    await expect(container.start()).rejects.toMatchObject({ details: [`${host}: ENOENT`] });
    await container.destroy();
  });
});

/** What a container's root can try so that a program of its own becomes more on the host than it may. */
const plant = [
  'cp /bin/true /s/suid; chmod 6755 /s/suid',
  'for id in 0 1 33 998 999 1000 65534; do cp /bin/true /s/as-$id; chown $id:$id /s/as-$id; chmod 6755 /s/as-$id; done',
  'cp /bin/true /s/cap',
  `perl -e 'my ($f, $n, $v) = ("/s/cap", "security.capability", pack("V5", 0x02000001, 0xffffffff, 0, 0, 0)); syscall(188, $f, $n, $v, 20, 0)'`,
].join('\n');

describe('S43 a container that plants programs for others of the host', () => {
  test('in a folder of a user gets nothing that is root’s or another user’s', async (context) => {
    needRoot(context);
    const host = folder(somebody, { open: true });
    const container = await started({ host });
    expect(await container.sh(`${plant}\nls /s | wc -l`)).toBe('9');
    const range = { first: lab().idOutside(0), last: lab().idOutside(65535) };
    for (const name of readdirSync(host)) {
      const { uid, gid } = statSync(join(host, name));
      for (const id of [uid, gid])
        expect(id === somebody || (id >= range.first && id <= range.last), `${name}: ${uid}:${gid}`).toBe(true);
    }
    const capability = readXattr(join(host, 'cap'), 'security.capability');
    // Of the third kind: for user namespaces of this user only (linux/capability.h, struct vfs_ns_cap_data).
    expect(capability?.readUInt32LE(0)).toBe(0x03000001);
    expect(capability?.readUInt32LE(20)).toBe(somebody);
  });

  test('in a folder of root that others get at can make nothing there, and its user is told why and how', async (context) => {
    needRoot(context);
    const host = folder(0, { open: true });
    writeFileSync(join(host, 'private'), 'text', { mode: 0o600 });
    const container = await started({ host });
    expect(said(container)).toEqual([expect.stringMatching(/^\/s is read-only: .*belongs to root.*`uid: 0`/)]);
    expect(await container.sh('stat -c %u:%g /s; cat /s/private')).toBe('0:0\ntext');
    expect(await container.sh(plant)).toContain('Read-only file system');
    expect(await container.sh('mount -o remount,rw /s 2>&1 || mount -o remount,bind,rw /s')).toContain('ermi');
    expect(readdirSync(host)).toEqual(['private']);
    const meant = await started({ host, uid: 0 });
    expect(said(meant)).toEqual([]);
    await meant.sh('touch /s/made');
    expect(statSync(join(host, 'made')).uid).toBe(0);
  });

  test('in a folder of a group that is more than its owner’s own can make nothing either', async (context) => {
    needRoot(context);
    const host = folder(somebody, { open: true });
    chownSync(host, somebody, 0);
    const container = await started({ host });
    expect(said(container)).toEqual([expect.stringContaining('belongs to group 0')]);
    expect(await container.sh(plant)).toContain('Read-only file system');
    expect(readdirSync(host)).toEqual([]);
  });

  test('in a folder that only root gets at works as root, as whoever shared it did', async (context) => {
    needRoot(context);
    const host = folder(0);
    const container = await started({ host });
    expect(said(container)).toEqual([]);
    await container.sh('touch /s/made');
    expect(statSync(join(host, 'made')).uid).toBe(0);
    expect(existsSync(join(host, 'made'))).toBe(true);
  });
});

test('a device of the host can be used with the rights that others have on it', async () => {
  const isolation = { ...isolationOf({}), devices: [{ host: '/dev/zero', container: '/dev/nil', access: 'rw' }] };
  const container = lab().container({ machine: { isolation } });
  onTestFinished(() => container.destroy());
  await container.start();
  expect(await container.sh('head -c 3 /dev/nil | wc -c; echo x > /dev/nil && echo written')).toBe('3\nwritten');
  expect(await container.sh('chmod 777 /dev/nil')).toContain('not permitted');
});
