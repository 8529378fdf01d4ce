import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createKvmProvider, type KvmProvider } from '../../providers/kvm/index.ts';
import { lookUp, qemuProgram } from '../../providers/kvm/probe.ts';
import { hasGoodRings } from '../../providers/kvm/start.ts';
import { runKvmCheck } from '../../src/app/kvm-check.ts';
import type { Machine } from '../../src/model/project.ts';
import type { BoxRef, MachineContext, Transport } from '../../src/model/provider.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import { connectSsh } from '../../src/ssh/client.ts';
import { generateKeyPair } from '../../src/ssh/keys.ts';
import { storeDir } from '../../src/state/paths.ts';
import { ensureBox } from '../../src/store/box/index.ts';
import { givesUsers } from '../../src/sys/own-user.ts';
import { isAlive } from '../../src/sys/process.ts';
import { readUserMap, vmUsers } from '../../src/sys/userns.ts';
import { hostLauncher, loopbackDialler } from '../support/host-launcher.ts';
import { type GuestMode, makeGuest } from '../support/kvm-guest.ts';
import { nobodyOnTheHost, ownerOf } from '../support/process-owner.ts';
import { smallDisk } from '../support/small-disk.ts';

const store = storeDir(process.env);
const boxesDir = new URL('../../boxes', import.meta.url).pathname;

const launcher = hostLauncher();
const signal = new AbortController().signal;
const patience = { timeout: 120_000 };

let shared: string;
let box: BoxRef;
let guest: Omit<BoxRef, 'cmdline'>;
let sshPort: number;
let root: string;
let provider: KvmProvider;
let started: ProcessRef[];

function newProvider(): KvmProvider {
  return createKvmProvider({
    launcher,
    dialler: loopbackDialler({ 22: sshPort }),
    ssh: connectSsh,
    cacheDir: join(shared, 'cache'),
    check: runKvmCheck,
    nic: (machine) => ({ type: 'user', ...(machine === 'db' ? { hostPort: sshPort, guestPort: 22 } : {}) }),
  });
}

function contextOf(
  mode: GuestMode,
  options: Partial<Machine> = {},
  state: Partial<MachineContext> = {},
): MachineContext {
  const machine: Machine = {
    name: 'db',
    group: 'db',
    kind: 'vm',
    box: 'test-guest',
    hostname: 'db',
    memoryBytes: 128 << 20,
    cpus: 1,
    pids: 0,
    env: {},
    networks: [{ network: 'default' }],
    forwards: [],
    shares: [],
    disks: [],
    dependsOn: [],
    provision: [],
    bootTimeoutMs: 30_000,
    stopTimeoutMs: 30_000,
    accel: 'tcg',
    ...options,
  };
  return {
    machine,
    projectId: 'p',
    projectName: 'shop',
    dir: join(root, 'machines', 'db'),
    runDir: join(root, 'run'),
    volumeDir: (volume) => join(root, 'volumes', volume),
    box: { ...guest, cmdline: `console=ttyS0 panic=-1 tsv.test=${mode}` },
    addresses: [{ network: 'default', address: '10.0.2.15', mac: '52:54:00:12:34:56', device: 'eth0' }],
    networks: { default: { bridge: 'br0', gateway: '10.0.2.2', prefix: 24, mode: 'nat' } },
    memory: {},
    process: undefined,
    ...state,
  };
}

/** The same machine with the real box. */
function boxContext(options: Partial<Machine> = {}): MachineContext {
  return { ...contextOf('deaf', { memoryBytes: 512 << 20, cpus: 2, bootTimeoutMs: 110_000, ...options }), box };
}

/** Creates and starts; gives back the context as the caller would remember it. */
async function up(
  from: GuestMode | MachineContext,
  options: Partial<Machine> = {},
): Promise<MachineContext & { process: ProcessRef }> {
  const context = typeof from === 'string' ? contextOf(from, options) : from;
  const memory = await provider.create(context);
  const { process, accel } = await provider.start(context, signal, () => {});
  started.push(process);
  expect(accel?.accel).toBe('tcg');
  return { ...context, memory, process };
}

/** What a shell script in the machine prints. */
async function output(transport: Transport, script: string): Promise<string> {
  const session = await transport.exec({ argv: ['sh', '-ec', script] });
  session.stdin.end();
  const [out, error, { code }] = await Promise.all([text(session.stdout), text(session.stderr), session.exited]);
  expect({ code, error }).toEqual({ code: 0, error: '' });
  return out.trimEnd();
}

/** A port of 127.0.0.1 that is free now: QEMU wants to be told one. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Resolves when the console has printed `text`, at any time since the machine's start. */
async function printed(context: MachineContext, text: string, from: KvmProvider = provider): Promise<void> {
  const seen = () => from.consoleLines(context, 1000).some((line) => line.includes(text));
  const session = await from.attach(context);
  await new Promise<void>((resolve) => {
    const look = () => void (seen() && resolve());
    session.stdout.on('data', look);
    look();
  });
  session.signal('HUP');
}

beforeAll(async () => {
  shared = mkdtempSync(join(tmpdir(), 'tsv-kvm-'));
  box = await ensureBox({
    boxesDir,
    store,
    name: 'debian-12',
    kind: 'vm',
    map: readUserMap(),
    signal,
    progress: () => {},
  });
  if (box.kernel === undefined) throw new Error('the box has no kernel');
  guest = makeGuest(shared, box.kernel);
}, 600_000);
afterAll(() => rmSync(shared, { recursive: true }));

beforeEach(async () => {
  sshPort = await freePort();
  root = mkdtempSync(join(tmpdir(), 'tsv-kvm-'));
  mkdirSync(join(root, 'machines', 'db'), { recursive: true });
  provider = newProvider();
  started = [];
});

afterEach(async () => {
  await provider.detach();
  for (const process of started) {
    launcher.kill(process, 'SIGKILL');
    await launcher.exited(process);
  }
  rmSync(root, { recursive: true });
});

/** Says how connect(2) to the socket `$ARGV[0]` went. */
const connecting =
  'socket(S, PF_UNIX, SOCK_STREAM, 0); print connect(S, pack_sockaddr_un($ARGV[0])) ? "connected" : $!';

describe('a virtual machine on a real QEMU', () => {
  test('reads and writes its disks through io_uring where QEMU can have one', patience, async () => {
    const asked = async (context = contextOf('deaf')) => {
      const { process } = await up(context);
      return readFileSync(`/proc/${process.pid}/cmdline`, 'utf8').includes('file.aio=io_uring');
    };
    expect(await asked()).toBe(hasGoodRings(release()));
    await provider.stop({ ...contextOf('deaf'), process: started[0] }, { force: true });

    const bin = join(root, 'qemu', 'bin');
    mkdirSync(bin, { recursive: true });
    const refuse = `case "$*" in *io_uring*) sleep 0.5; echo 'Unable to use io_uring: Operation not permitted' >&2; exit 1;; esac`;
    const script = `#!/bin/sh\n${refuse}\nexec ${lookUp(qemuProgram)} "$@"\n`;
    writeFileSync(join(bin, qemuProgram), script, { mode: 0o755 });
    vi.stubEnv('PATH', `${bin}:${process.env.PATH}`);
    try {
      const [dir, runDir] = [join(root, 'machines', 'other'), join(root, 'run-other')];
      mkdirSync(dir);
      // Two at once, and the answer takes a moment: both have asked by then.
      const both = [contextOf('deaf'), contextOf('deaf', { name: 'other', hostname: 'other' }, { dir, runDir })];
      expect(await Promise.all(both.map((context) => asked(context)))).toEqual([false, false]);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test(
    'boots, lets us in by its own keys, is adopted by another agent, and powers off when asked',
    patience,
    async () => {
      const context = await up(boxContext({ disks: [{ name: 'data', sizeBytes: 8 << 20 }] }));
      const transport = await provider.connect(context, signal);
      const told = await output(
        transport,
        'hostname; cat /etc/machine-id; ip -o link show eth0; lsblk -bdno SIZE /dev/disk/by-id/virtio-data; id -un',
      );
      expect(told.split('\n')).toEqual([
        'db',
        context.memory.machineId,
        expect.stringContaining('52:54:00:12:34:56'),
        String(8 << 20),
        'root',
      ]);
      transport.close();
      await provider.detach();

      const heir = newProvider();
      try {
        expect(await heir.observe(context)).toEqual({ state: 'running', process: context.process });
        expect(await heir.start(context, signal, () => {})).toMatchObject({
          process: context.process,
          accel: { accel: 'tcg' },
        });
        const again = await heir.connect(context, signal);
        await output(again, 'echo said after adoption >/dev/ttyS0');
        await printed(context, 'said after adoption', heir);
        again.close();
        await heir.stop(context, { force: false });
      } finally {
        await heir.detach();
      }
      expect(isAlive(context.process)).toBe(false);
      expect(heir.consoleLines(context, 1000).join('\n')).toMatch(/Power down|Power-Off|reboot: /);
      expect(await provider.observe({ ...context, process: undefined })).toEqual({
        state: 'stopped',
        unexpectedly: false,
      });
      expect(readdirSync(context.runDir)).toEqual([]);
    },
  );

  test(
    'S44 whose SSH server shows another key is refused; F19 whose kernel panics later is ended, F27 and its connection',
    patience,
    async () => {
      const context = await up(boxContext());
      const transport = await provider.connect(context, signal);
      const pinned = join(context.dir, 'identity', 'host_ed25519.pub');
      const own = readFileSync(pinned, 'utf8');
      writeFileSync(pinned, generateKeyPair('somebody else').publicKey);
      await expect(provider.connect(context, signal)).rejects.toMatchObject({ code: 'TSV_HOST_KEY' });
      writeFileSync(pinned, own);
      // Anybody in it can print that, and it means nothing.
      await output(transport, 'echo "Kernel panic - not syncing: no" >/dev/ttyS0');
      await printed(context, 'not syncing: no');
      await output(await provider.connect(context, signal), 'sync');
      const crash = await transport.exec({
        argv: ['sh', '-c', 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger'],
      });
      crash.exited.catch(() => {});
      await transport.closed;
      await launcher.exited(context.process);
      expect(provider.consoleLines(context, 100).join('\n')).toContain('not syncing: sysrq triggered crash');
    },
  );

  test(
    'S41 runs as a user of its own without any right, to whom only what it needs is there',
    patience,
    async (skip) => {
      if (!givesUsers()) skip.skip('only root can give a machine a user of its own');
      const context = await up('deaf', { disks: [{ name: 'data', sizeBytes: 8 << 20 }] });
      const { pid } = context.process;
      const is = ownerOf(pid);
      expect(is.uid).toBeGreaterThanOrEqual(vmUsers.first);
      expect(is.uid).toBeLessThan(vmUsers.first + vmUsers.count);
      expect(is).toEqual({ ...nobodyOnTheHost, uid: is.uid, gid: is.uid });
      const inside = (path: string) => `/proc/${pid}/root${path}`;
      expect(readdirSync(inside(context.dir)).sort()).toEqual(['credentials', 'disk.qcow2', 'disks']);
      expect(readdirSync(inside('/dev')).sort()).toEqual(['null', 'urandom']);
      expect(existsSync(inside('/proc/1')) || existsSync(inside('/etc/passwd'))).toBe(false);
      // Others do not get to its control socket, even where they get to its folder.
      expect(statSync(context.runDir).mode & 0o777).toBe(0o711);
      expect(statSync(context.runDir).uid).toBe(0);
      chmodSync(root, 0o711);
      const connects = (uid: number) => {
        const as = [`--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
        const argv = [...as, 'perl', '-MSocket', '-e', connecting, join(context.runDir, 'qmp.sock')];
        return execFileSync('setpriv', argv, {
          encoding: 'utf8',
          env: { PATH: process.env.PATH, LC_ALL: 'C' },
          cwd: '/',
        });
      };
      expect([0, 65534, is.uid + 1].map(connects)).toEqual(['connected', 'Permission denied', 'Permission denied']);

      // A second start of another machine, while this one runs: somebody else.
      const other = { ...contextOf('deaf'), dir: join(root, 'machines', 'other'), runDir: join(root, 'run-other') };
      mkdirSync(other.dir);
      sshPort = await freePort();
      const second = await up(other);
      expect(ownerOf(second.process.pid).uid).not.toBe(is.uid);
    },
  );

  test(
    'S41 that an older version started as root goes on with its disks, which become its own',
    patience,
    async (skip) => {
      if (!givesUsers()) skip.skip('only root can give a machine a user of its own');
      const context = await up('deaf');
      await provider.stop(context, { force: true });
      const disk = join(context.dir, 'disk.qcow2');
      chownSync(disk, 0, 0);
      const { process } = await provider.start({ ...context, process: undefined }, signal, () => {});
      started.push(process);
      expect(statSync(disk).uid).toBe(ownerOf(process.pid).uid);
      await printed({ ...context, process }, 'guest is up');
    },
  );

  test('has its console captured from the first line', patience, async () => {
    const context = await up('deaf');
    await printed(context, 'guest is up');
    const log = readFileSync(join(context.dir, 'console.log'), 'utf8');
    expect(log).toMatch(/\[ {4}0\.000000\] Linux version .*\r\n/);
    expect(log).toContain('systemd.hostname=db');
  });

  test('is started, stopped, created and destroyed any number of times with the same result', patience, async () => {
    const context = await up('deaf');
    const again = await provider.start(context, signal, () => {});
    expect(again.process).toEqual(context.process);
    expect(await provider.create(context)).toEqual(context.memory);

    await provider.stop(context, { force: true });
    await provider.stop(context, { force: true });
    expect(isAlive(context.process)).toBe(false);

    const second = await provider.start({ ...context, process: undefined }, signal, () => {});
    started.push(second.process);
    expect(second.process).not.toEqual(context.process);
    expect(existsSync(join(context.dir, 'console.log.1'))).toBe(true);

    for (const _ of [1, 2]) {
      await provider.destroy({ ...context, process: second.process });
      expect(isAlive(second.process)).toBe(false);
      expect(readdirSync(context.dir)).toEqual([]);
      expect(readdirSync(context.runDir)).toEqual([]);
      expect(await provider.observe({ ...context, process: undefined })).toEqual({ state: 'absent' });
    }
  });

  test('that ignores the power button is ended when its time is up, and that is told', patience, async () => {
    const context = await up('deaf', { stopTimeoutMs: 500 });
    await printed(context, 'guest is up');
    const told: string[] = [];
    await provider.stop(context, { force: false, forced: (why) => told.push(why) });
    expect(isAlive(context.process)).toBe(false);
    expect(told).toEqual(['it had not powered off after 0.5 s, and was ended']);
  });

  test(
    'F18 whose QEMU is frozen is not waited for longer than boot_timeout, and ended all the same',
    patience,
    async () => {
      const context = await up('deaf', { stopTimeoutMs: 500, bootTimeoutMs: 1000 });
      launcher.kill(context.process, 'SIGSTOP');
      await expect(provider.connect(context, signal)).rejects.toMatchObject({
        code: 'TSV_WAIT',
        message: expect.stringContaining('not met is "QEMU runs" (1 of 4)'),
      });
      const told: string[] = [];
      await provider.stop(context, { force: false, forced: (why) => told.push(why) });
      expect(isAlive(context.process)).toBe(false);
      expect(told).toEqual(['its QEMU did not answer, and was killed']);
    },
  );

  test(
    'F6 whose disk has no room for its memory is told so before it is saved, and stays as it is',
    patience,
    async (context) => {
      const disk = await smallDisk(context, shared, 16);
      const machine = await up({ ...contextOf('deaf'), dir: disk.path });
      await printed(machine, 'guest is up');
      await provider.pause(machine, true);
      await expect(provider.snapshots.save(machine, 'tsv-1', signal)).rejects.toMatchObject({
        code: 'TSV_SNAPSHOT',
        message: 'db: there is no room for its memory',
        details: [expect.stringMatching(/^it has up to 128M, and \d+M are free/)],
      });
      expect(await provider.snapshots.tags(machine)).toEqual([]);
      await provider.pause(machine, false);
      await provider.stop(machine, { force: true });
      // Without memory it needs none.
      const off = { ...machine, process: undefined };
      expect(await provider.snapshots.save(off, 'tsv-1', signal)).toMatchObject({ memory: false });
      expect(await provider.snapshots.tags(off)).toEqual(['tsv-1']);
      const saved = { tag: 'tsv-2', memory: false, provider: {} };
      expect(await provider.snapshots.problem(off, saved)).toBe('its disk does not have it');
      await provider.snapshots.delete(off, 'tsv-1');
      expect(await provider.snapshots.tags(off)).toEqual([]);
    },
  );

  test('F17 that was killed is seen as stopped unexpectedly, and starts again on its disk', patience, async () => {
    const context = await up('deaf');
    launcher.kill(context.process, 'SIGKILL');
    await launcher.exited(context.process);
    expect(await provider.observe(context)).toEqual({ state: 'stopped', unexpectedly: true });
    await expect(provider.connect(context, signal)).rejects.toMatchObject({ code: 'TSV_VM_DIED' });
    const { process } = await provider.start(context, signal, () => {});
    started.push(process);
    await printed({ ...context, process }, 'guest is up');
  });

  test(
    'F1 whose agent was killed before it could note the process is found, and not started twice',
    patience,
    async () => {
      const context = await up('deaf');
      await provider.detach();
      const forgotten = { ...context, process: undefined };
      expect(await provider.observe(forgotten)).toEqual({ state: 'running', process: context.process });
      // Two who ask at once share one conversation: QMP serves a single client.
      const both = [1, 2].map(() => provider.start(forgotten, signal, () => {}));
      for (const { process } of await Promise.all(both)) expect(process).toEqual(context.process);
      await provider.stop(forgotten, { force: true });
      expect(isAlive(context.process)).toBe(false);
    },
  );

  test('F19 whose kernel panics fails the wait at once, with its last lines, and is ended', patience, async () => {
    const context = await up('panic');
    await expect(provider.connect(context, signal)).rejects.toMatchObject({
      code: 'TSV_WAIT',
      message: expect.stringContaining('its kernel panicked: Attempted to kill init!'),
      details: expect.arrayContaining([expect.stringContaining('Kernel panic - not syncing')]),
    });
    await launcher.exited(context.process);
  });

  test('F19 that nobody can reach fails the wait with the requirement that is not met', patience, async () => {
    const context = await up('deaf', { bootTimeoutMs: 3000 });
    await printed(context, 'guest is up');
    await provider.detach();
    sshPort = 1; // nothing listens there
    provider = newProvider();
    await expect(provider.connect(context, signal)).rejects.toMatchObject({
      code: 'TSV_WAIT',
      message: expect.stringContaining('"port 22 answers at 10.0.2.15" (3 of 4)'),
      details: expect.arrayContaining([
        expect.stringContaining('ECONNREFUSED'),
        expect.stringContaining('guest is up'),
      ]),
    });
  });

  test('whose QEMU is killed during the wait fails it at once', patience, async () => {
    const context = await up('deaf');
    const wait = provider.connect(context, signal);
    await printed(context, 'Linux version');
    launcher.kill(context.process, 'SIGKILL');
    await expect(wait).rejects.toMatchObject({ code: 'TSV_VM_DIED' });
  });

  test("that QEMU refuses fails with QEMU's own words and leaves no process", patience, async () => {
    const context = contextOf('deaf', { memoryBytes: 2 ** 62 });
    await provider.create(context);
    await expect(provider.start(context, signal, () => {})).rejects.toMatchObject({
      code: 'TSV_VM_START',
      details: expect.arrayContaining([expect.stringMatching(/^qemu-system-x86_64: /)]),
    });
    expect(await provider.observe(context)).toEqual({ state: 'stopped', unexpectedly: false });
  });

  test('keeps its data disks, grows them, and keeps its keys out of the process list', patience, async () => {
    const context = await up('deaf', { disks: [{ name: 'data', sizeBytes: 8 << 20 }] });
    const argv = readFileSync(`/proc/${context.process.pid}/cmdline`, 'utf8');
    const secret = readFileSync(join(context.dir, 'identity', 'host_ed25519'), 'utf8').split('\n')[3] ?? '?';
    expect(argv).not.toContain(secret);
    expect(argv).not.toContain('tmpfiles.extra=');
    await provider.stop(context, { force: true });
    const disk = join(context.dir, 'disks', 'data.qcow2');
    const before = statSync(disk).ino;
    await provider.create(contextOf('deaf', { disks: [{ name: 'data', sizeBytes: 16 << 20 }] }));
    expect(statSync(disk).ino).toBe(before);
    expect(readFileSync(disk).readBigUInt64BE(24)).toBe(BigInt(16 << 20));
  });

  test(
    'F20 with acceleration left to choose starts on what works, and says so when that is slow',
    patience,
    async () => {
      const context = contextOf('deaf', { accel: 'auto' });
      await provider.create(context);
      const notices: string[] = [];
      const { process, accel } = await provider.start(context, signal, (text) => notices.push(text));
      started.push(process);
      expect(notices).toHaveLength(accel?.accel === 'tcg' ? 1 : 0);
      await printed({ ...context, process }, 'guest is up');
      const row = (await provider.probe()).find(({ id }) => id === 'kvm');
      expect(row?.ok, row?.detail).toBe(accel?.accel === 'kvm');
    },
  );
});

test('what the host has is listed with the commands that mend it', async () => {
  const requirements = await provider.probe();
  expect(requirements.map(({ id }) => id)).toEqual(['qemu', 'qemu-img', 'kvm', 'tun']);
  for (const { id, ok, mend } of requirements) expect(ok || id === 'kvm' || mend !== undefined).toBe(true);
});
