import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { killNow, type Running, tsvProgram } from '../support/cli.ts';
import { sharedFixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const two = `
version: 1
project: copies
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  a: { image: debian-12, tmpfs: ["/small:size=64K"] }
  b: { image: debian-12, read_only: true }
`;

const names = (folder: string): string[] => (readdirSync(folder, { recursive: true }) as string[]).sort();
const isRoot = process.getuid?.() === 0;

describe('tsv cp with containers', () => {
  const project = sharedFixture(
    'tsv cp with containers',
    { 'Tsfile.yaml': two },
    {
      prepare: async (made) => {
        await made.ok('up');
        await made.ok('exec a -- rm -f /bin/tar /usr/bin/tar');
      },
    },
  );
  const inside = async (line: string, machine = 'a'): Promise<string> =>
    (await project().ok(['exec', machine, '--', 'sh', '-c', line])).stdout;
  const here = (path: string): string => join(project().dir, path);

  test('copies a folder in and out again, in the names of root there and of the user here', async () => {
    mkdirSync(here('site/deep'), { recursive: true });
    writeFileSync(here('site/page'), Buffer.from([0, 1, 2, 255]));
    writeFileSync(here('site/deep/ü 1'), 'name');
    chmodSync(here('site/page'), 0o750);
    symlinkSync('/etc/passwd', here('site/link'));
    const copied = await project().ok('cp site a:/srv');
    expect(copied.stderr).toMatch(/^Copied [\d.]+ kB to a:\/srv\n$/);
    expect(copied.stdout).toBe('');
    expect(await inside('cd /srv/site && stat -c "%n %u:%g %a %F" page link deep/*')).toBe(
      'page 0:0 750 regular file\nlink 0:0 777 symbolic link\ndeep/ü 1 0:0 644 regular file\n',
    );
    expect(await inside('chown 7:8 /srv/site/page; echo more >/srv/site/more; ls -A /srv')).toBe('site\n');
    await project().ok('cp -q a:/srv/site back');
    expect(names(here('back'))).toEqual(['deep', 'deep/ü 1', 'link', 'more', 'page']);
    expect(readFileSync(here('back/page'))).toEqual(Buffer.from([0, 1, 2, 255]));
    expect(lstatSync(here('back/link')).isSymbolicLink()).toBe(true);
    const { uid, gid, mode } = statSync(here('back/page'));
    expect([uid, gid, mode & 0o777]).toEqual([process.getuid?.(), process.getgid?.(), 0o750]);
    await project().ok('cp a:/srv/site/. .');
    expect(existsSync(here('more'))).toBe(true);
  });

  test('keeps owners with --archive, as far as they may be given', async () => {
    await inside('mkdir /owned; echo x >/owned/file; chown 7:8 /owned/file; chmod 6755 /owned/file');
    const { stderr } = await project().ok('cp -aq a:/owned .');
    const { uid, mode } = statSync(here('owned/file'));
    if (isRoot) expect([uid, mode & 0o7777]).toEqual([7, 0o6755]);
    else expect(stderr).toMatch(/owners are not kept/);
    await project().ok('cp -aq a:/owned a:/copy');
    expect(await inside('stat -c "%u:%g %a" /copy/file')).toBe('7:8 6755\n');
    await project().ok('cp -q a:/owned a:/plain');
    expect(await inside('stat -c "%u:%g %a" /plain/file')).toBe('0:0 755\n');
  });

  test('streams archives in and out, and from machine to machine', async () => {
    await inside('mkdir -p /out/d; echo one >/out/d/1; ln /out/d/1 /out/d/2');
    const listed = await project().run([
      'sh',
      '-c',
      '"$0" "$1" cp a:/out - | tar -t | sort',
      process.execPath,
      tsvProgram,
    ]);
    expect(listed.stdout).toBe('out/\nout/d/\nout/d/1\nout/d/2\n');
    const line = 'mkdir in && echo two >in/2 && tar -c in | "$0" "$1" cp - a:/out';
    const unpacked = await project().run(['sh', '-c', line, process.execPath, tsvProgram]);
    expect(unpacked).toMatchObject({ code: 0 });
    expect(await inside('cat /out/in/2; stat -c %h /out/d/1')).toBe('two\n2\n');
    await project().ok('cp -q b:/etc/debian_version a:/out/version');
    expect(await inside('cat /out/version')).toBe(await inside('cat /etc/debian_version', 'b'));
  });

  test.each([
    ['cp a:/nothing .', /a:\/nothing: no such file or folder/],
    ['cp Tsfile.yaml a:/no/parent', /a:\/no\/parent: the folder \/no does not exist/],
    ['cp Tsfile.yaml b:/etc/x', /b:Tsfile\.yaml: the file system is read-only/],
    ['cp a:/etc Tsfile.yaml', /Tsfile\.yaml: a folder cannot be copied onto a file/],
    ['cp x y', /neither the source nor the destination is in a machine/],
    ['cp a: y', /a: is no path/],
    ['cp c:/x y', /no machine of this project is named c/],
  ])('%s says what is wrong', async (command, why) => {
    const { code, stderr } = await project().tsv(command);
    expect(stderr).toMatch(why);
    expect(code).toBe(1);
  });

  test('leaves what was there when there is no room, or the archive is cut off', async () => {
    await inside('echo old >/small/big; echo old >/srv/cut');
    writeFileSync(here('big'), Buffer.alloc(200_000, 7));
    const full = await project().tsv('cp big a:/small');
    expect(full.stderr).toMatch(/a:big: no space left/);
    expect(full.code).toBe(1);
    expect(await inside('ls -A /small; cat /small/big')).toBe('big\nold\n');
    const line = 'cp big cut && tar -c cut | head -c 100000 | "$0" "$1" cp - a:/srv';
    const cut = await project().run(['sh', '-c', line, process.execPath, tsvProgram]);
    expect(cut.stderr).toMatch(/a:not a valid tar archive.*cut off/);
    expect(await inside('cat /srv/cut; ls -A /srv | grep tsv || true')).toBe('old\n');
  });

  test('follows no link out of the container, whichever way', async () => {
    writeFileSync(here('file'), 'mine');
    await inside(
      `ln -sfn ../../../../../../../../.. /up; ln -sfn ${here('.')} /host; mkdir -p /ev && ln -sfn /etc /ev/dir`,
    );
    await project().ok('cp -q file a:/up/');
    expect(await inside('cat /file')).toBe('mine');
    const refused = await project().tsv('cp a:/host/Tsfile.yaml stolen');
    expect(refused.code).toBe(1);
    expect(existsSync(here('stolen'))).toBe(false);
    await project().ok('cp -q a:/ev .');
    expect(lstatSync(here('ev/dir')).isSymbolicLink()).toBe(true);
  });

  /** The beginning of an archive of one file. */
  const beginning = (): string => {
    const header = Buffer.alloc(512);
    header.write('slow', 0);
    header.write('0000644\0', 100);
    header.write('0000000\0', 108);
    header.write('0000000\0', 116);
    header.write('00001000000\0', 124);
    header.write('00000000000\0', 136);
    header.write('        0', 148);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return `${header.toString('latin1')}some of it`;
  };

  const agentPid = (): number => {
    const pid = project().agentPid();
    if (pid === undefined) throw new Error('no agent');
    return pid;
  };

  test.each<[string, (feeding: Running) => unknown, number, string]>([
    ['by Ctrl-C', (feeding) => feeding.signal('SIGINT'), 130, 'interrupted'],
    ['with its command, that is killed', (feeding) => feeding.signal('SIGKILL'), 137, ''],
    ['with the agent, that is killed', () => killNow(agentPid()), 1, 'a: the connection is gone'],
  ])('is ended %s, and leaves nothing that is not whole', async (_, end, code, said) => {
    const feeding = project().start('cp - a:/srv');
    feeding.write(beginning());
    await until('it is being written', async () => /\.tsv-/.test(await inside('ls -A /srv')));
    await end(feeding);
    const result = await feeding.result;
    expect([result.code, result.stderr]).toEqual([code, expect.stringContaining(said)]);
    await until('what was not whole is gone', async () => !/\.tsv-|slow/.test(await inside('ls -A /srv')));
  });

  test('that nobody takes any more holds nothing up, and says so when its agent is killed', async () => {
    await inside('head -c 64M /dev/zero | tr "\\0" x > /srv/large');
    const taking = spawn(process.execPath, [tsvProgram, 'cp', 'a:/srv/large', '-'], { cwd: project().dir });
    const said: string[] = [];
    taking.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
    await once(taking.stdout, 'readable');
    // The others go on meanwhile.
    expect(await inside('echo well')).toBe('well\n');
    await killNow(agentPid());
    const [[code]] = await Promise.all([once(taking, 'exit'), taking.stdout.resume()]);
    expect([code, said.join('')]).toEqual([1, expect.stringContaining('a: the connection is gone')]);
    await inside('rm /srv/large');
  });
});
