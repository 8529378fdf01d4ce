import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { storeDir } from '../../src/state/paths.ts';
import { start } from '../support/cli.ts';
import { type Fixture, sharedFixture } from '../support/fixture.ts';
import { listProcesses, tsvId } from '../support/host-processes.ts';
import { rootTest } from '../support/root.ts';

/* A project that is up, attacked by other users and processes of the host. Numbers are those of the security checklist. */

const project = sharedFixture(
  'attacks',
  {
    'Tsfile.yaml': 'version: 1\nproject: attacked\nmachines:\n  box: { image: debian-12 }\n',
  },
  {
    prepare: async (made) => {
      await made.ok('up');
      await made.ok(['exec', 'box', '--', 'sh', '-c', 'cp /bin/true /root/evil && chmod 4755 /root/evil /root']);
    },
  },
);

const manyUsers = rootTest('only root can become another user');

/** The agent and all that it and its predecessors have started for the project, with the containers' processes. */
function processesOf(made: Fixture): number[] {
  const { projectId } = made.state() ?? { projectId: 'none' };
  const all = [...listProcesses().values()];
  const own = new Set([made.agentPid() ?? 0, made.holderPid(), made.machinePid('box')]);
  for (const one of all) if (tsvId(one)?.includes(projectId) === true || one.cwd.startsWith(made.dir)) own.add(one.pid);
  for (let size = 0; size !== own.size; ) {
    size = own.size;
    for (const { pid, parent } of all) if (own.has(parent) && parent !== 1) own.add(pid);
  }
  return [...own].filter((pid) => existsSync(`/proc/${pid}`) && pid !== process.pid);
}

interface UnixSocket {
  readonly inode: string;
  /** A path; with `@` in front a name of the abstract namespace; empty without any (unix(7)). */
  readonly name: string;
}

/** proc(5), /proc/net/unix, of the network namespace of a process. */
const unixSockets = (pid: number | 'self'): UnixSocket[] =>
  readFileSync(`/proc/${pid}/net/unix`, 'utf8')
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => {
      const [, , , , , , inode = '', ...name] = line.trim().split(/\s+/);
      return { inode, name: name.join(' ') };
    });

const socketsHeldBy = (pids: readonly number[]): Set<string> =>
  new Set(
    pids.flatMap((pid) =>
      readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
        } catch {
          return []; // closed meanwhile
        }
      }),
    ),
  );

describe('S21 what a project keeps', () => {
  const asOther = (line: string) =>
    start('/', ['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups', 'sh', '-c', line], { input: '' })
      .result;

  manyUsers('S21 no other user of the host reaches a setuid program of a container', async () => {
    const made = project();
    // The test's own folder is open to all: what is closed is closed by tsv.
    await made.run(['chmod', '755', made.dir]);
    const upper = join(made.dir, '.ts-vm/machines/box/upper/root/evil');
    expect(statSync(upper).mode & 0o7777, 'there is one').toBe(0o4755);
    for (const path of [
      upper,
      dirname(upper),
      join(made.dir, '.ts-vm/machines/box'),
      join(made.dir, '.ts-vm/state.json'),
    ]) {
      const { code, stderr } = await asOther(`stat ${path} && ${path}`);
      expect([path, code === 0, /ermission denied/.test(stderr)]).toEqual([path, false, true]);
    }
    expect((await asOther(`ls /proc/${made.machinePid('box')}/root/`)).stderr).toContain('ermission denied');
  });

  manyUsers('S21 nor one of a box in the store', async () => {
    const boxes = join(storeDir(process.env), 'boxes');
    const found = readdirSync(boxes).flatMap((name) =>
      readdirSync(join(boxes, name))
        .map((part) => join(boxes, name, part, 'rootfs/usr/bin/su'))
        .filter(existsSync),
    );
    expect(found).not.toEqual([]);
    for (const path of found) {
      expect(statSync(path).mode & 0o4000, `${path} is setuid`).toBe(0o4000);
      const { code, stderr } = await asOther(`stat ${path}`);
      expect([path, code === 0, /ermission denied/.test(stderr)]).toEqual([path, false, true]);
    }
  });

  manyUsers('S21 nor the sockets by which a project is told what to do', async () => {
    const sockets = unixSockets('self').filter(({ name }) => name.endsWith('agent.sock'));
    const held = socketsHeldBy(processesOf(project()));
    const own = sockets.filter(({ inode }) => held.has(inode));
    expect(own).toHaveLength(1);
    for (const { name } of own) {
      const script =
        'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); print connect(S, sockaddr_un($ARGV[0])) ? "in" : "$!"';
      const { stdout } = await start(
        '/',
        ['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups', 'perl', '-e', script, name],
        { input: '' },
      ).result;
      expect(stdout).toBe('Permission denied');
    }
  });
});

describe('S25 sockets of a project', () => {
  test('S25 none has a name of the abstract namespace, on the host, in the sandbox or in a container', async () => {
    const made = project();
    const running = made.start(['exec', 'box', '--', 'sh', '-c', 'echo entered; read line']);
    await running.prints(/entered/);
    const held = socketsHeldBy(processesOf(made));
    expect(held.size, 'there are sockets at all').toBeGreaterThan(0);
    const onHost = unixSockets('self').filter(({ inode }) => held.has(inode));
    expect(onHost.filter(({ name }) => name.startsWith('@'))).toEqual([]);
    for (const pid of [made.holderPid(), made.machinePid('box')])
      expect(unixSockets(pid).filter(({ name }) => name.startsWith('@'))).toEqual([]);
    running.write('\n');
    await running.result;
  });

  test('S25 each is 0600, in a folder of 0700', () => {
    const made = project();
    const held = socketsHeldBy(processesOf(made));
    const paths = new Set(
      ['self' as const, made.holderPid()].flatMap((pid) =>
        unixSockets(pid)
          .filter(({ inode, name }) => held.has(inode) && name.startsWith('/'))
          .map(({ name }) => name),
      ),
    );
    // What others listen on, such as the system's log, is connected to under its own name.
    const own = [...paths].filter((path) => lstatSync(path).uid === process.geteuid?.() && /\/tsv\b|\/tsv-/.test(path));
    expect(own.some((path) => path.endsWith('/agent.sock'))).toBe(true);
    for (const path of own) {
      expect([path, lstatSync(path).mode & 0o777]).toEqual([path, 0o600]);
      expect([path, lstatSync(dirname(path)).mode & 0o777]).toEqual([path, 0o700]);
    }
  });
});
