import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readEvents } from '../../src/state/events.ts';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const head = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
`;
const tsfile = (machines: string): Readonly<Record<string, string>> => ({ 'Tsfile.yaml': `${head}${machines}` });

/** A web server of perl-base, which every Debian has: what is in /srv is there, all else is not. */
const server = `
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalPort => $ARGV[0], Listen => 16, ReuseAddr => 1) or die $!;
while (my $client = $listener->accept) {
  my ($path) = (<$client> // '') =~ /^GET (\\S+)/;
  while (<$client>) { last if /^\\r?$/ }
  my $status = -e "/srv$path" ? '200 OK' : '404 Not Found';
  print $client "HTTP/1.0 $status\\r\\nContent-Length: 8\\r\\n\\r\\nnothing\\n";
  close $client;
}
`;

/** `MACHINE EVENT`, oldest first. */
const happened = (project: Fixture): string[] =>
  readEvents(project.dir).map(({ machine, event }) => `${machine} ${event.type}`);

const size = (file: string): number | undefined => statSync(file, { throwIfNoEntry: false })?.size;

/** What `tsv status` shows of a machine's state. */
const shown = async (project: Fixture, machine: string): Promise<string> =>
  new RegExp(`^${machine} +container +(\\w+(?: \\(\\w+\\))?)`, 'm').exec((await project.ok('status')).stdout)?.[1] ??
  '';

describe('a one-shot machine', () => {
  const machines = (code: number) => `
  app: { image: debian-12, depends_on: { migrate: completed } }
  migrate: { image: debian-12, command: "echo making tables; exit ${code}", oneshot: true }
`;

  test('that fails keeps what needs it from starting; once it has ended with 0, that starts, and it is not run again', async () => {
    const project = fixture(tsfile(machines(3)));
    const failed = await project.tsv('up');
    expect(failed.code).toBe(1);
    for (const words of [
      'migrate did not complete: ended with 3',
      '[TSV_ONESHOT]',
      'making tables',
      'tsv logs migrate',
    ])
      expect(failed.stderr).toContain(words);
    expect((await project.states()).migrate).toBe('stopped (ended with 3)');
    expect(happened(project)).not.toContain('app started');
    const wait = await project.tsv('wait migrate completed');
    expect([wait.code, wait.stderr]).toEqual([1, 'migrate is not completed: stopped (ended with 3)\n']);

    project.write('Tsfile.yaml', `${head}${machines(0)}`);
    expect((await project.tsv('plan')).stdout).toContain('ended with 3');
    await project.ok('up');
    const order = happened(project);
    expect(order.lastIndexOf('migrate ended')).toBeLessThan(order.indexOf('app started'));
    expect(await project.states()).toEqual({ app: 'running', migrate: 'completed' });
    expect((await project.ok('wait migrate completed')).stderr).toBe('');
    expect((await project.tsv('plan')).code).toBe(0);

    await project.ok('halt');
    expect(await project.states()).toEqual({ app: 'stopped', migrate: 'completed' });
    await project.ok('up');
    expect(happened(project).filter((event) => event === 'migrate started')).toHaveLength(2);
  });
});

describe('health', () => {
  test('is asked by HTTP and by a connection, for as long as a machine runs, and told when it changes', async () => {
    const machines = (path: string) => `
  web:
    image: debian-12
    share: [{ host: ./site, guest: /site, readonly: true }]
    command: [perl, /site/server.pl, "8000"]
    healthcheck: { http: { port: 8000, path: ${path} }, every: 50ms, retries: 3 }
  db:
    image: debian-12
    share: [{ host: ./site, guest: /site, readonly: true }]
    command: [perl, /site/server.pl, "5432"]
    healthcheck: { tcp: 5432, every: 50ms }
  app: { image: debian-12, depends_on: { web: healthy, db: healthy } }
`;
    const project = fixture({ ...tsfile(machines('/')), 'site/server.pl': server });
    await project.ok('up');
    const order = happened(project);
    expect(order.indexOf('web health')).toBeLessThan(order.indexOf('app started'));
    expect(await shown(project, 'web')).toBe('running (healthy)');
    expect(await shown(project, 'db')).toBe('running (healthy)');
    expect(await shown(project, 'app')).toBe('running');

    // The check of the Tsfile as it is now, without a restart.
    const pid = project.machinePid('web');
    project.write('Tsfile.yaml', `${head}${machines('/ready')}`);
    await project.ok('up');
    await until('web is unhealthy', async () => (await shown(project, 'web')) === 'running (unhealthy)');
    expect(project.machinePid('web')).toBe(pid);
    const { health } = (await project.status()).machines.find(({ machine }) => machine === 'web') ?? {};
    expect(health).toMatchObject({ status: 'unhealthy', reason: expect.stringMatching(/^HTTP status 404\n/) });
    const bad = await project.tsv('wait web healthy');
    expect([bad.code, bad.stderr]).toEqual([
      1,
      'web is not healthy: running (unhealthy): GET /ready at port 8000 failed 3 times: HTTP status 404\n',
    ]);
    await project.ok('exec web -- touch /srv/ready');
    await project.ok('wait web healthy');

    // Another agent goes on with it, and says nothing new of a machine that is as it was.
    await killNow(project.agentPid() ?? 0);
    const before = happened(project).length;
    await project.ok('wait web db healthy');
    expect(happened(project)).toHaveLength(before);
    await project.ok('exec web -- rm /srv/ready');
    await until('web is unhealthy again', async () => (await shown(project, 'web')) === 'running (unhealthy)');
  });

  test('that does not come fails up: with the check, what it printed, and the last lines of the machine', async () => {
    const project = fixture(
      tsfile(`
  db:
    image: debian-12
    command: "echo cannot read my files; exec sleep 1000"
    healthcheck: { exec: "echo no database here; exit 7", every: 50ms, retries: 2 }
  app: { image: debian-12, depends_on: { db: healthy } }
`),
    );
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toContain(
      "db is not healthy: '/bin/sh -c echo no database here; exit 7' failed 2 times [TSV_UNHEALTHY]",
    );
    expect(stderr).toMatch(/exit code 7\n +no database here\n +the last lines of db:\n +cannot read my files\n/);
    expect(happened(project)).not.toContain('app started');

    project.edit((text) => text.replace('retries: 2', 'retries: 1000'));
    const late = await project.tsv('up --timeout 300ms');
    expect(late.code).toBe(1);
    expect(late.stderr).toContain('db was not healthy within 0.3 s [TSV_WAIT]');
    expect(late.stderr).toContain('machine.start app');
  });

  test('that hangs is cut short, and nobody else waits for it', async () => {
    const project = fixture(
      tsfile(`
  slow: { image: debian-12, healthcheck: { exec: [tail, -f, /dev/null], every: 10ms, timeout: 200ms, retries: 3 } }
  quick: { image: debian-12, healthcheck: { exec: ["true"], every: 10ms } }
`),
    );
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toContain('slow is not healthy');
    expect(stderr).toContain('no answer within 200 ms');
    expect(await shown(project, 'quick')).toBe('running (healthy)');
    const { stdout } = await project.tsv('exec slow -- pgrep -xc tail');
    expect(Number(stdout)).toBeLessThanOrEqual(1);
  });

  test('that hangs, and output without end, are no concern of a killed agent: the next one goes on with both', async () => {
    const project = fixture(
      tsfile(`
  slow: { image: debian-12, healthcheck: { exec: [tail, -f, /dev/null], every: 10ms, timeout: 1h } }
  loud: { image: debian-12, command: ["yes", "a line of sixteen"] }
`),
    );
    await project.ok('up --no-wait');
    const folder = join(project.dir, '.ts-vm', 'machines', 'loud');
    const logBytes = () => ['', '.1'].reduce((sum, end) => sum + (size(join(folder, `console.log${end}`)) ?? 0), 0);
    const checks = async () => Number((await project.tsv('exec slow -- pgrep -xc tail')).stdout);
    await until('a check hangs', async () => (await checks()) === 1);
    await until('its log is full', () => size(join(folder, 'console.log.1')) !== undefined);
    const first = project.agentPid() ?? 0;
    await killNow(first);
    const inode = () => statSync(join(folder, 'console.log.1')).ino; // there always is one: it is replaced by rename(2)
    const before = inode();
    await until('its log is full again, though nobody is there', () => inode() !== before);
    expect(project.agentPid()).toBeUndefined();
    expect(logBytes()).toBeLessThan(34 << 20);
    // With the next agent, which asks again; what the one before has asked is ended.
    expect((await project.ok('exec loud -- echo well')).stdout).toBe('well\n');
    expect(project.agentPid()).not.toBe(first);
    await until('one check hangs', async () => (await checks()) === 1);
    expect(await project.states()).toMatchObject({ loud: 'running' });
  });
});

describe('tsv wait', () => {
  test('waits without an agent where nothing changes, and with one for machines that others start and stop', async () => {
    const project = fixture(
      tsfile(`
  a: { image: debian-12, healthcheck: { exec: [test, -e, /ready], every: 50ms, retries: 1000 } }
  b: { image: debian-12 }
`),
    );
    const down = await project.tsv('wait a b running');
    expect([down.code, down.stderr]).toEqual([1, 'a is not running: not created\nb is not running: not created\n']);
    await project.ok('wait stopped');
    expect(project.agentPid()).toBeUndefined();

    await project.ok('up --no-wait');
    expect(await shown(project, 'a')).toBe('running (starting)');
    await project.ok('wait running');
    expect(JSON.parse((await project.tsv('wait a healthy --timeout 200ms --json')).stdout)).toEqual([
      { machine: 'a', met: false, is: 'running (starting)' },
    ]);
    const healthy = project.start('wait a healthy');
    await project.ok('exec a -- touch /ready');
    expect((await healthy.result).code).toBe(0);
    const without = await project.tsv('wait b healthy');
    expect([without.code, without.stderr]).toEqual([1, expect.stringContaining('b cannot become healthy')]);

    const stopped = project.start('wait a stopped');
    await killNow(project.machinePid('a'));
    expect((await stopped.result).code).toBe(0);
    const gone = project.start('wait b stopped');
    await project.ok('halt b');
    expect((await gone.result).code).toBe(0);

    const wrong = await project.tsv('wait c stopped');
    expect(wrong.stderr).toContain('its machines: a, b');
    expect((await project.tsv('wait a')).stderr).toContain('none of healthy, running, completed, stopped');
    expect(readFileSync(join(project.dir, '.ts-vm', 'agent.log'), 'utf8')).toBe('');
  });
});
