import { renameSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const busy = `
version: 1
project: look
networks: { default: { mode: isolated } }
machines:
  busy:
    image: debian-12
    memory: 64M
    env: { GREETING: hello }
    command: ["sh", "-c", "sleep 1000 & while :; do :; done"]
  idle: { image: debian-12, memory: 64M }
`;

interface Listed {
  readonly project: string;
  readonly dir: string;
  readonly running: number;
  readonly machines: number;
  readonly agent?: number;
  readonly since?: string;
  readonly problem?: string;
  readonly processes?: readonly number[];
}
const listed = async (project: Fixture, args = 'ls --json'): Promise<Listed[]> =>
  JSON.parse((await project.ok(args)).stdout) as Listed[];

describe('looking at containers', () => {
  test('inspect, stats and top say what runs, without an agent', async () => {
    const project = fixture({ 'Tsfile.yaml': busy });
    await project.ok('up');
    const agent = project.agentPid();
    if (agent === undefined) throw new Error('no agent');
    await killNow(agent);

    const [details] = JSON.parse((await project.ok('inspect busy')).stdout) as Record<string, unknown>[];
    expect(details).toMatchObject({
      name: 'busy',
      kind: 'container',
      state: 'running',
      process: { pid: project.machinePid('busy') },
      restarts: 0,
      paused: false,
      box: { name: 'debian-12' },
      entrypoint: [],
      command: ['sh', '-c', 'sleep 1000 & while :; do :; done'],
      env: { GREETING: 'hello' },
      user: '0:0',
      workdir: '/',
      networks: { default: { address: project.state()?.machines.busy?.addresses[0]?.address, device: 'eth0' } },
      limits: { memoryBytes: 64 << 20, cpus: 1 },
      isolation: { privileged: false },
    });
    const format = ['inspect', 'busy', 'idle', '--format', '{{.Name}} {{.state}} {{.env.GREETING}}'];
    expect((await project.tsv(['inspect', 'busy', '-f', '.limits.memoryBytes'])).stdout).toBe(`${64 << 20}\n`);
    const missing = await project.tsv(format);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain('has no .GREETING');
    expect((await project.tsv('inspect bsy')).stderr).toMatch(/no machine of this project is named bsy/);

    const usage = JSON.parse((await project.ok('stats busy --no-stream --json')).stdout) as Record<string, number>;
    // One CPU is all that its one loop can use; the host may leave it less.
    expect(usage.cpuPercent).toBeGreaterThan(0);
    expect(usage.cpuPercent).toBeLessThan(150);
    expect(usage).toMatchObject({ machine: 'busy', pids: 2 });
    expect(usage.memoryBytes).toBeGreaterThan(0);
    expect(usage.memoryBytes).toBeLessThan(64 << 20);

    const processes = JSON.parse((await project.ok('top busy --json')).stdout) as Record<string, unknown>[];
    expect(processes.map(({ user, command }) => ({ user, command }))).toEqual([
      { user: 'root', command: 'sh -c sleep 1000 & while :; do :; done' },
      { user: 'root', command: 'sleep 1000' },
    ]);
    expect(processes[0]).toMatchObject({ pid: 1, hostPid: project.machinePid('busy') });
    expect((await project.ok('top idle')).stdout).toMatch(/^PID +HOST PID +USER .*\n1 +\d+ +root /);
    expect(project.agentPid()).toBeUndefined();

    const live = project.start('stats --json');
    await live.prints(/"machine":"busy".*\n.*"machine":"idle".*\n/);
    live.signal('SIGINT');
    expect((await live.result).code).toBe(130);

    await project.ok('halt idle');
    const refused = await project.tsv('top idle');
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/idle is not running[\s\S]*tsv up idle/)]);
    expect((await project.tsv('stats idle')).stderr).toMatch(/idle: not running/);
  });
});

const two = `
version: 1
project: listed
networks: { default: { mode: isolated } }
machines:
  a: { image: debian-12, memory: 64M }
  b: { image: debian-12, memory: 64M }
`;

describe('all projects of a user', () => {
  test('are found by what runs and by their state, whatever became of their agents and folders', async () => {
    const [first, second] = [fixture({ 'Tsfile.yaml': two }), fixture({ 'Tsfile.yaml': two })];
    const own = async () => (await listed(first)).filter(({ dir }) => dir === first.dir || dir === second.dir);
    expect(await own()).toEqual([]);
    await first.ok('up');
    await second.ok('up a');
    const agent = second.agentPid();
    if (agent === undefined) throw new Error('no agent');
    await killNow(agent);

    const bySight = (projects: readonly Listed[]) =>
      Object.fromEntries(projects.map(({ dir, running, machines, agent }) => [dir, `${running}/${machines} ${agent}`]));
    expect(bySight(await own())).toEqual({
      [first.dir]: `2/2 ${first.agentPid()}`,
      [second.dir]: '1/1 undefined',
    });
    for (const { since } of await own()) expect(Date.parse(since ?? '')).toBeGreaterThan(Date.now() - 600_000);
    // Another store remembers none of them.
    const elsewhere = { env: { TSV_STORE: '/nonexistent/tsv-store' } };
    expect((await first.ok('ls -q', elsewhere)).stdout.split('\n')).toEqual(
      expect.arrayContaining([first.dir, second.dir]),
    );

    const name = second.state()?.projectName;
    renameSync(second.dir, `${second.dir}-away`);
    try {
      const lost = (await own()).find(({ dir }) => dir === second.dir);
      expect(lost).toMatchObject({
        problem: 'its folder is gone',
        project: name,
      });
      expect(lost?.processes?.length).toBeGreaterThan(0);
      // Other projects of this user may make the column wider.
      const row = (await first.ok('ls')).stdout.split('\n').find((line) => line.includes(second.dir));
      expect(row).toMatch(/ {2}its folder is gone \(runs: /);
    } finally {
      renameSync(`${second.dir}-away`, second.dir);
    }

    await first.ok('halt');
    expect(bySight(await own())[first.dir]).toBe('0/2 undefined');
    for (const project of [first, second]) await project.ok('destroy -f');
    // Their agents remove the last of it as they leave.
    await until('no project is left', async () => (await own()).length === 0);
  });
});

describe('status --watch', () => {
  test('shows what becomes of machines at once, with an agent and without', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    const watch = project.start('status --watch --json');
    await watch.prints(/"machine":"a","kind":"container","state":"not created"/);
    await project.ok('up');
    await watch.prints(
      /"machine":"a","kind":"container","state":"running".*"machine":"b","kind":"container","state":"running"/,
    );
    const agent = project.agentPid();
    if (agent === undefined) throw new Error('no agent');
    await killNow(agent);
    await killNow(project.machinePid('a'));
    await watch.prints(
      /"machine":"a","kind":"container","state":"stopped","detail":"killed by SIGKILL".*"machine":"b","kind":"container","state":"running"/,
    );
    const lines = watch.output().stdout.trimEnd().split('\n');
    expect(lines.filter((line, index) => line === lines[index - 1])).toEqual([]);

    const shown = project.startOnTerminal('status --watch');
    await shown.prints(/1 running, 1 stopped/);
    await project.ok('destroy -f');
    await shown.prints(/2 not created/);
    shown.write('\x03');
    expect((await shown.result).code).toBe(130);
    watch.signal('SIGINT');
    expect((await watch.result).code).toBe(130);
    expect(watch.output().stderr).toBe('');
  });
});
