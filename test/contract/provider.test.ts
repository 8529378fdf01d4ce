import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, onTestFinished, test as plainTest, type TestContext } from 'vitest';
import { createKvmProvider } from '../../providers/kvm/index.ts';
import { runKvmCheck } from '../../src/app/kvm-check.ts';
import { TsvError } from '../../src/model/errors.ts';
import type { Machine } from '../../src/model/project.ts';
import type { MachineContext, Provider } from '../../src/model/provider.ts';
import type { ProcessRef } from '../../src/model/state.ts';
import { connectSsh } from '../../src/ssh/client.ts';
import { storeDir } from '../../src/state/paths.ts';
import { ensureBox } from '../../src/store/box/index.ts';
import { isAlive } from '../../src/sys/process.ts';
import { readUserMap } from '../../src/sys/userns.ts';
import { containerTests, isInside } from '../support/containers.ts';
import { hostLauncher, loopbackDialler } from '../support/host-launcher.ts';
import { makeGuest } from '../support/kvm-guest.ts';
import { until } from '../support/until.ts';

/* What src/model/provider.ts promises, held against every provider for real. */

type Test = (name: string, work: (context: TestContext) => Promise<void>) => void;

interface Subject {
  readonly provider: Provider;
  /** A machine that does not exist yet. Each call gives another one. */
  context(): MachineContext;
}

const never = new AbortController().signal;
const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => expect.fail('it succeeded'),
    (error: unknown) => error,
  );

/** Creates and starts; gives back the context as the caller would remember it. */
async function up({ provider, context }: Subject): Promise<MachineContext & { process: ProcessRef }> {
  const fresh = context();
  const memory = await provider.create(fresh);
  const { process } = await provider.start({ ...fresh, memory }, never, () => {});
  onTestFinished(() => provider.destroy({ ...fresh, memory, process }));
  return { ...fresh, memory, process };
}

function lifecycle(test: Test, subject: () => Subject): void {
  test('probe lists what it needs of the host, with a command that mends what is missing', async () => {
    const requirements = await subject().provider.probe();
    expect(requirements.length).toBeGreaterThan(0);
    expect(new Set(requirements.map(({ id }) => id)).size).toBe(requirements.length);
    for (const { id, description, detail, required, mend, ok } of requirements) {
      expect(id).toMatch(/^[a-z0-9-]+$/);
      expect(description).not.toBe('');
      expect(detail).not.toBe('');
      if (required && !ok) expect(mend, id).toBeTruthy();
    }
  });

  test('validate has nothing against a plain machine of its kind', async () => {
    const { provider, context } = subject();
    expect(context().machine.kind).toBe(provider.kind);
    expect(provider.validate(context().machine)).toEqual([]);
  });

  test('observe calls a machine absent that was never made, and makes nothing', async () => {
    const { provider, context } = subject();
    const fresh = context();
    expect(await provider.observe(fresh)).toEqual({ state: 'absent' });
    expect(readdirSync(fresh.dir)).toEqual([]);
  });

  test('create makes it stopped, gives plain JSON to remember, and keeps what there is the second time', async () => {
    const { provider, context } = subject();
    const fresh = context();
    const memory = await provider.create(fresh);
    expect(JSON.parse(JSON.stringify(memory))).toEqual(memory);
    expect(await provider.observe({ ...fresh, memory })).toEqual({ state: 'stopped', unexpectedly: false });
    expect(await provider.create({ ...fresh, memory })).toEqual(memory);
    await provider.destroy({ ...fresh, memory });
  });

  test('start tells the process before it runs, and gives the same one back when it runs already', async () => {
    const { provider, context } = subject();
    const fresh = context();
    const memory = await provider.create(fresh);
    const recorded: ProcessRef[] = [];
    const { process } = await provider.start(
      { ...fresh, memory },
      never,
      () => {},
      async (ref) => {
        recorded.push(ref);
      },
    );
    const running = { ...fresh, memory, process };
    expect(recorded).toEqual([process]);
    expect(await provider.observe(running)).toEqual({ state: 'running', process });
    expect((await provider.start(running, never, () => {})).process).toEqual(process);
    await provider.destroy(running);
  });

  test('start does nothing once it is cancelled', async () => {
    const { provider, context } = subject();
    const fresh = context();
    const memory = await provider.create(fresh);
    await failure(provider.start({ ...fresh, memory }, AbortSignal.abort(new Error('cancelled')), () => {}));
    expect(await provider.observe({ ...fresh, memory })).toEqual({ state: 'stopped', unexpectedly: false });
    await provider.destroy({ ...fresh, memory });
  });

  test('a process that has ended by itself is observed as stopped unexpectedly', async () => {
    const { provider } = subject();
    const running = await up(subject());
    process.kill(running.process.pid, 'SIGKILL');
    await until('it has ended', () => !isAlive(running.process));
    expect(await provider.observe(running)).toEqual({ state: 'stopped', unexpectedly: true });
  });

  test('stop by force ends it at once; stopped already is success; it starts again', async () => {
    const { provider } = subject();
    const running = await up(subject());
    await provider.stop(running, { force: true });
    expect(isAlive(running.process)).toBe(false);
    await provider.stop(running, { force: true });
    const stopped = { ...running, process: undefined };
    await provider.stop(stopped, { force: false });
    expect(await provider.observe(stopped)).toEqual({ state: 'stopped', unexpectedly: false });
    const { process } = await provider.start(stopped, never, () => {});
    expect(process).not.toEqual(running.process);
    await provider.destroy({ ...stopped, process });
  });

  test('adjust to the limits that a machine has is success, again and again, and it runs on', async () => {
    const { provider } = subject();
    const running = await up(subject());
    for (const _ of [1, 2]) await provider.adjust(running, running.machine, never, () => {});
    expect(await provider.observe(running)).toEqual({ state: 'running', process: running.process });
    await provider.destroy(running);
  });

  test('destroy ends it and leaves nothing; gone already is success', async () => {
    const { provider } = subject();
    const running = await up(subject());
    await provider.destroy(running);
    expect(isAlive(running.process)).toBe(false);
    expect(existsSync(running.dir) ? readdirSync(running.dir) : []).toEqual([]);
    const gone = { ...running, process: undefined };
    expect(await provider.observe(gone)).toEqual({ state: 'absent' });
    await provider.destroy(gone);
    await provider.destroy(running);
  });

  test('connect to what does not run is an error that says so', async () => {
    const { provider, context } = subject();
    const fresh = context();
    const memory = await provider.create(fresh);
    const error = await failure(provider.connect({ ...fresh, memory }, never));
    expect(error).toBeInstanceOf(TsvError);
    expect((error as TsvError).message).toContain(fresh.machine.name);
    await provider.destroy({ ...fresh, memory });
  });
}

function transport(test: Test, subject: () => Subject): void {
  test('a transport runs, copies and dials, and says when the way in is gone', async () => {
    const { provider } = subject();
    const running = await up(subject());
    const way = await provider.connect(running, never);

    const session = await way.exec({
      argv: ['sh', '-c', 'cat; echo "$0 $WORD" >&2; exit 5', 'a b'],
      env: { WORD: 'two words' },
      cwd: '/tmp',
    });
    const [out, err] = [buffer(session.stdout), buffer(session.stderr)];
    session.stdin.end('input');
    expect(await session.exited).toEqual({ code: 5 });
    expect([(await out).toString(), (await err).toString()]).toEqual(['input', 'a b two words\n']);

    await way.put(Readable.from([Buffer.from('con'), Buffer.from('tent')]), '/tmp/file', { mode: 0o600 });
    expect((await buffer(await way.get('/tmp/file'))).toString()).toBe('content');
    await expect(way.get('/tmp/no-such-file')).rejects.toBeInstanceOf(TsvError);

    await expect(way.dial(9)).rejects.toBeInstanceOf(TsvError);
    const server = await way.exec({
      argv: [
        'perl',
        '-MIO::Socket::INET',
        '-e',
        '$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:7007", Listen => 1) or die; $| = 1; print "ready"; $c = $s->accept; print $c scalar <$c>',
      ],
    });
    await new Promise((resolve) => server.stdout.once('data', resolve));
    const socket = await way.dial(7007);
    socket.end('echo\n');
    expect((await buffer(socket)).toString()).toBe('echo\n');
    expect(await server.exited).toEqual({ code: 0 });

    await provider.stop(running, { force: true });
    await way.closed;
    way.close();
  });
}

describe('the namespace provider', () => {
  const { test, lab } = containerTests(import.meta.filename);
  const subject = (): Subject => ({
    provider: lab().provider,
    context: () => lab().container({ networked: true }).context,
  });
  lifecycle(test, subject);
  transport(test, subject);

  test('validate refuses what containers of others than root do not have', async () => {
    const { provider, context } = subject();
    const disks = [{ name: 'data', sizeBytes: 1 << 30, mount: '/data' }];
    expect(provider.validate({ ...context().machine, disks })).toEqual(
      lab().map.rooted ? [] : [expect.stringMatching(/^disks of a container need root/)],
    );
  });
});

/* VMs are reached over SSH, which takes a booted guest: test/integration/kvm.test.ts holds the transport. */
describe.skipIf(isInside)('the kvm provider', () => {
  let folder: string;
  let guest: ReturnType<typeof makeGuest>;
  let provider: ReturnType<typeof createKvmProvider>;
  let count = 0;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'tsv-contract-'));
    const boxes = {
      boxesDir: join(import.meta.dirname, '../../boxes'),
      store: storeDir(process.env),
      map: readUserMap(),
    };
    const box = await ensureBox({ ...boxes, name: 'debian-12', kind: 'vm', signal: never, progress: () => {} });
    if (box.kernel === undefined) throw new Error('the box has no kernel');
    guest = makeGuest(folder, box.kernel);
    provider = createKvmProvider({
      launcher: hostLauncher(),
      dialler: loopbackDialler({}),
      ssh: connectSsh,
      cacheDir: join(folder, 'cache'),
      check: runKvmCheck,
      nic: () => ({ type: 'user', hostPort: 0, guestPort: 22 }),
    });
  }, 600_000);
  afterAll(async () => {
    await provider.detach();
    rmSync(folder, { recursive: true, force: true });
  });

  const context = (): MachineContext => {
    const name = `vm-${++count}`;
    const [dir, runDir] = [join(folder, 'machines', name), join(folder, 'run', name)];
    for (const path of [dir, runDir]) mkdirSync(path, { recursive: true, mode: 0o700 });
    const machine: Machine = {
      name,
      group: name,
      kind: 'vm',
      box: 'test-guest',
      hostname: name,
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
      bootTimeoutMs: 1000,
      stopTimeoutMs: 1000,
      accel: 'tcg',
    };
    return {
      machine,
      projectId: 'p',
      projectName: 'contract',
      dir,
      runDir,
      volumeDir: (volume) => join(folder, 'volumes', volume),
      box: { ...guest, cmdline: 'console=ttyS0 tsv.test=deaf' },
      addresses: [{ network: 'default', address: '10.0.2.15', mac: '52:54:00:12:34:56', device: 'eth0' }],
      networks: { default: { bridge: 'br0', gateway: '10.0.2.2', prefix: 24, mode: 'nat' } },
      memory: {},
      process: undefined,
    };
  };
  lifecycle(
    (name, work) => plainTest(name, work),
    () => ({ provider, context }),
  );
});
