import { chmodSync, cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageDir, tsvProgram } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';

const one = 'version: 1\nmachines:\n  front: { image: debian-12, memory: 64M }\n';
const nothingMade = (project: Fixture) => expect(existsSync(join(project.dir, '.ts-vm')), '.ts-vm').toBe(false);

describe('bad input', () => {
  test('a Tsfile with many mistakes reports all of them at once, with line, column and caret, and makes nothing', async () => {
    const text = readFileSync(join(packageDir, 'test/fixtures/tsfile/mistakes/Tsfile.yaml'), 'utf8');
    const project = fixture({ 'Tsfile.yaml': text });
    for (const command of ['validate', 'up', 'plan']) {
      const { code, stderr } = await project.tsv(command);
      expect(code, command).toBe(1);
      expect(stderr.match(/Tsfile\.yaml:\d+:\d+/g)?.length, stderr).toBeGreaterThanOrEqual(12);
      expect(stderr).toContain('^');
      expect(stderr).not.toMatch(/\n\s+at .*:\d+:\d+\)?$/m);
    }
    nothingMade(project);
  });

  test('a misspelled machine is answered with the nearest name', async () => {
    const project = fixture({ 'Tsfile.yaml': one });
    await project.ok('up');
    const commands = [
      'up',
      'plan',
      'ssh',
      'logs',
      'port',
      'ssh-config',
      'provision',
      'halt',
      'reload',
      'destroy -f',
    ].map((command) => `${command} frnot`);
    for (const command of [...commands, 'exec frnot -- true']) {
      const { code, stderr } = await project.tsv(command);
      expect(code, command).toBe(1);
      expect(stderr, command).toMatch(/frnot[\s\S]*front/);
    }
    expect(await project.states()).toEqual({ front: 'running' });
  });

  test('help and version whose reader has gone end without a word', async () => {
    const project = fixture({ 'Tsfile.yaml': one });
    const tsv = `"${process.execPath}" "${tsvProgram}"`;
    for (const words of ['--help', '--version', 'help up', 'store gc --help', 'box --help']) {
      const line = `exec 3> >(exit); wait $!; ${tsv} ${words} >&3; echo "exit $?"`;
      const { stdout, stderr } = await project.run(['bash', '-c', line]);
      expect([stdout, stderr], words).toEqual(['exit 0\n', '']);
    }
  });

  test('a misspelled command or option is answered with the nearest one', async () => {
    const project = fixture({ 'Tsfile.yaml': one });
    expect((await project.tsv('statsu')).stderr).toMatch(/statsu[\s\S]*status/);
    expect((await project.tsv('up --provison')).stderr).toMatch(/--provison[\s\S]*--provision/);
    expect((await project.tsv('up --parallel 0')).stderr).toContain('1 or more');
  });

  test('a folder without a Tsfile is told, with the first step', async () => {
    const project = fixture({ 'readme.txt': 'nothing here' });
    for (const command of ['up', 'status', 'destroy -f', 'validate']) {
      const { code, stderr } = await project.tsv(command);
      expect(code, command).toBe(1);
      expect(stderr).toMatch(/no Tsfile\.yaml[\s\S]*tsv init/);
    }
  });

  test('an unknown box is told before anything is made', async () => {
    const project = fixture({ 'Tsfile.yaml': one.replace('image: debian-12, memory: 64M', 'box: debian-21') });
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toMatch(/debian-21[\s\S]*debian-12/);
    expect(await project.states()).toEqual({ front: 'not created' });
  });

  const isRoot = process.getuid?.() === 0;
  test.skipIf(!isRoot)(
    'a missing program is found before anything is made, with the command that installs it',
    async () => {
      const project = fixture({ 'Tsfile.yaml': one });
      // In a mount namespace of its own, where nft is a file that nobody may run.
      project.write('hide', '');
      const hidden = await project.run([
        ...[
          'unshare',
          '--mount',
          'sh',
          '-c',
          'for f in /usr/sbin/nft /sbin/nft; do [ ! -e $f ] || mount --bind hide $f; done; exec "$@"',
        ],
        ...['sh', process.execPath, tsvProgram, 'up'],
      ]);
      expect(hidden.code).toBe(1);
      expect(hidden.stderr).toMatch(/nft is not installed[\s\S]*apt-get install .*nftables/);
      nothingMade(project);
    },
  );

  test.skipIf(!isRoot)('an ordinary user without a range of ids is told, with the command that gives one', async () => {
    const project = fixture({ 'Tsfile.yaml': one });
    // A copy, because root's checkout may be in a folder that others may not enter.
    for (const path of ['dist', 'boxes', 'package.json', 'node_modules/koffi', 'node_modules/@koromix'])
      cpSync(join(packageDir, path), join(project.dir, 'copy', path), { recursive: true });
    chmodSync(project.dir, 0o755);
    const { code, stderr } = await project.run(
      ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, 'copy/dist/tsv.js', 'up'],
      { env: { HOME: '/nonexistent', XDG_RUNTIME_DIR: '' } },
    );
    expect(code, stderr).toBe(1);
    expect(stderr).toMatch(/nobody has no range of 65536 ids[\s\S]*usermod --add-subuids/);
    nothingMade(project);
  });

  test('state of a newer version is refused, and not touched', async () => {
    const project = fixture({ 'Tsfile.yaml': one });
    await project.ok('up');
    await project.ok('halt');
    const file = join(project.dir, '.ts-vm', 'state.json');
    cpSync(file, join(project.dir, 'state.before'));
    writeFileSync(
      file,
      readFileSync(file, 'utf8').replace('"version": 1', '"version": 99').replace('"version":1', '"version":99'),
    );
    const text = readFileSync(file, 'utf8');
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toMatch(/newer/);
    expect(readFileSync(file, 'utf8')).toBe(text);
    cpSync(join(project.dir, 'state.before'), file);
  });

  test('init writes a Tsfile that is valid, keeps one that is there, and lists templates', async () => {
    const project = fixture({ 'readme.txt': '' });
    await project.ok('init');
    expect(readFileSync(join(project.dir, '.gitignore'), 'utf8')).toContain('.ts-vm/');
    await project.ok('validate');
    const again = await project.tsv('init');
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('Tsfile.yaml');
    expect((await project.ok('init --list')).stdout).toMatch(/load-balancer/);
  });
});
