import { expect, test } from 'vitest';
import type { Jail } from '../../../src/model/launch.ts';
import { enterJail, giveUpRoot } from '../../../src/sys/jail.ts';
import { givesUsers, takeUser } from '../../../src/sys/own-user.ts';
import { printProgram } from '../../../src/sys/program.ts';
import { readUserMap, vmUsers } from '../../../src/sys/userns.ts';

const jail: Jail = {
  uid: 1878917120,
  root: '/run/tsv/web',
  mounts: [
    { from: '/usr', to: '/usr', folder: true, writable: false, programs: true },
    { from: '/run/tsv/web', to: '/run/tsv/web', folder: true, writable: true },
    { from: '/p/disk', to: '/p/disk', folder: false, writable: true },
    { from: '/usr/local/box', to: '/usr/local/box', folder: false, writable: false },
  ],
  devices: [{ path: '/dev/null', number: 0x103 }],
  files: [{ path: '/lib.so', content: Buffer.from('so') }],
  links: [{ to: '/bin', target: 'usr/bin' }],
};

test('S41 a jail is a root with what is listed, taken hold of before it is covered, and cannot be written to', () => {
  const steps = enterJail(jail).filter((step) => !('call' in step && step.call === 'umask'));
  expect(printProgram(steps)).toBe(
    [
      'unshare CLONE_NEWNS # a mount namespace of its own',
      "mount none / '' MS_REC|MS_PRIVATE 0",
      'open_tree -100 /usr 557057 as tree0 # /usr',
      'open_tree -100 /run/tsv/web 557057 as tree1 # /run/tsv/web',
      'open_tree -100 /p/disk 524289 as tree2 # /p/disk',
      'open_tree -100 /usr/local/box 524289 as tree3 # /usr/local/box',
      'mount tsv /run/tsv/web tmpfs MS_NOSUID mode=755,size=1m',
      'mkdirat -100 /run/tsv/web/run 493',
      'mkdirat -100 /run/tsv/web/run/tsv 493',
      'mkdirat -100 /run/tsv/web/p 493',
      'mkdirat -100 /run/tsv/web/dev 493',
      'symlinkat usr/bin -100 /run/tsv/web/bin',
      'mknodat -100 /run/tsv/web/dev/null 8630 259 # /dev/null',
      'openat -100 /run/tsv/web/lib.so 524481 292 as file0',
      'write $file0 <2 bytes> 2',
      'close $file0 # else the root could not become read-only',
      'mkdirat -100 /run/tsv/web/usr 493',
      "move_mount $tree0 '' -100 /run/tsv/web/usr 4 # /usr",
      "mount none /run/tsv/web/usr '' MS_RDONLY|MS_NOSUID|MS_NODEV|MS_REMOUNT|MS_BIND 0",
      'mkdirat -100 /run/tsv/web/run/tsv/web 493',
      "move_mount $tree1 '' -100 /run/tsv/web/run/tsv/web 4 # /run/tsv/web",
      "mount none /run/tsv/web/run/tsv/web '' MS_NOSUID|MS_NODEV|MS_NOEXEC|MS_REMOUNT|MS_BIND 0",
      'mknodat -100 /run/tsv/web/p/disk 33060 0',
      "move_mount $tree2 '' -100 /run/tsv/web/p/disk 4 # /p/disk",
      "mount none /run/tsv/web/p/disk '' MS_NOSUID|MS_NODEV|MS_NOEXEC|MS_REMOUNT|MS_BIND 0",
      "move_mount $tree3 '' -100 /run/tsv/web/usr/local/box 4 # /usr/local/box",
      "mount none /run/tsv/web/usr/local/box '' MS_RDONLY|MS_NOSUID|MS_NODEV|MS_NOEXEC|MS_REMOUNT|MS_BIND 0",
      'chdir /run/tsv/web',
      'pivot_root . .',
      'umount2 . 2',
      "mount none / '' MS_RDONLY|MS_NOSUID|MS_REMOUNT|MS_BIND 0",
      'chdir /',
    ].join('\n'),
  );
});

test('S41 whoever gives up root has no group left, no capability, and no way to either', () => {
  const text = printProgram(giveUpRoot(jail.uid)).split('\n');
  expect(text.filter((line) => !line.includes(' 24 '))).toEqual([
    'setgroups 0 0',
    'setresgid 1878917120 1878917120 1878917120',
    'setresuid 1878917120 1878917120 1878917120',
    'capset <8 bytes> <24 bytes>',
    'prctl 38 1 0 0 0',
    'umask 63',
  ]);
  expect(text.filter((line) => line.includes(' 24 '))).toHaveLength(41); // PR_CAPBSET_DROP
});

test('users of machines are none of containers; only root of the host can give them', () => {
  const [containers] = readUserMap({ uid: 0, gid: 0, username: 'root' }).uids;
  expect(vmUsers.first + vmUsers.count).toBe(containers?.outside);
  const host = () => '         0          0 4294967295\n';
  expect(givesUsers(0, host)).toBe(true);
  expect(givesUsers(1000, host)).toBe(false);
  expect(givesUsers(0, () => '0 1000 1\n1 100000 65535\n')).toBe(false);
});

test('a user that is taken, by a process or by a start that is under way, is not given again', () => {
  const [one, other] = [takeUser('web', () => new Set()), takeUser('web', () => new Set())];
  expect(other.uid).not.toBe(one.uid);
  one.release();
  other.release();
  expect(takeUser('web', () => new Set()).uid).toBe(one.uid);
  const { uid, release } = takeUser('db', () => new Set());
  release();
  expect(takeUser('db', () => new Set([uid])).uid).not.toBe(uid);
  const all = Array.from({ length: vmUsers.count }, (_, index) => vmUsers.first + index);
  expect(() => takeUser('web', () => new Set(all))).toThrow(/in use/);
});
