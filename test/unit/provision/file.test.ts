import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runWith } from '../ssh/container.ts';
import { file, me, useMachine } from './support.ts';

const machine = useMachine();

describe('a file step', () => {
  it('copies a file with its mode, or with the asked one, and makes its parents', async () => {
    const source = join(machine.dir, 'a');
    writeFileSync(source, 'text');
    chmodSync(source, 0o751);
    const destination = join(machine.dir, 'x y', 'z', 'b');
    await machine.run(file(source, destination));
    expect(readFileSync(destination, 'utf8')).toBe('text');
    expect(statSync(destination).mode & 0o7777).toBe(0o751);
    expect(statSync(join(machine.dir, 'x y', 'z')).mode & 0o7777).toBe(0o755);
    await machine.run(file(source, destination, { mode: 0o600, owner: me.username }));
    expect(statSync(destination).mode & 0o7777).toBe(0o600);
    await machine.run(file(source, join(machine.dir, 'folder/')));
    expect(readFileSync(join(machine.dir, 'folder', 'a'), 'utf8')).toBe('text');
  });

  it('copies a folder with modes, links, odd names and empty folders, into what is there', async () => {
    const source = join(machine.dir, 'source');
    const names = ["it's", 'a b', '-n', 'ä\n*', '$(id)'];
    mkdirSync(join(source, 'sub', 'empty'), { recursive: true });
    for (const name of names) writeFileSync(join(source, 'sub', name), name, { mode: 0o640 });
    chmodSync(join(source, 'sub'), 0o750);
    symlinkSync('../nowhere', join(source, 'link'));
    const destination = join(machine.dir, 'destination');
    mkdirSync(destination, { mode: 0o711 });
    chmodSync(destination, 0o711);
    writeFileSync(join(destination, 'other'), 'kept');
    for (let twice = 0; twice < 2; twice++) await machine.run(file(source, destination));
    expect(readdirSync(destination).sort()).toEqual(['link', 'other', 'sub']);
    expect(readdirSync(join(destination, 'sub')).sort()).toEqual([...names, 'empty'].sort());
    for (const name of names) {
      expect(readFileSync(join(destination, 'sub', name), 'utf8')).toBe(name);
      expect(statSync(join(destination, 'sub', name)).mode & 0o7777).toBe(0o640);
    }
    expect(statSync(join(destination, 'sub')).mode & 0o7777).toBe(0o750);
    expect(statSync(destination).mode & 0o7777).toBe(0o711);
    expect(readlinkSync(join(destination, 'link'))).toBe('../nowhere');
  });

  it('gives files the asked mode, and folders x where there is r', async () => {
    const source = join(machine.dir, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'f'), '');
    await machine.run(file(source, join(machine.dir, 'd'), { mode: 0o640 }));
    expect(statSync(join(machine.dir, 'd')).mode & 0o7777).toBe(0o750);
    expect(statSync(join(machine.dir, 'd', 'f')).mode & 0o7777).toBe(0o640);
  });

  it('copies a thousand files and folders', async () => {
    const source = join(machine.dir, 'many');
    for (let i = 0; i < 500; i++) {
      mkdirSync(join(source, `folder-${i}-${'x'.repeat(100)}`), { recursive: true });
      writeFileSync(join(source, `folder-${i}-${'x'.repeat(100)}`, 'f'), String(i));
    }
    await machine.run(file(source, join(machine.dir, 'd')));
    expect(await runWith(['diff', '-r', source, join(machine.dir, 'd')])).toMatchObject({ code: 0 });
  }, 20_000);

  it('leaves the old file when it fails, and says why', async () => {
    const source = join(machine.dir, 'a');
    writeFileSync(source, randomBytes(10));
    mkdirSync(join(machine.dir, 'taken'));
    const error = await machine.failure(file(source, join(machine.dir, 'taken')));
    expect(error).toMatchObject({ code: 'TSV_PROVISION', message: "web-1: step 'copy' failed" });
    expect(error.details[0]).toContain('taken');
    expect(readdirSync(machine.dir).sort()).toEqual(['a', 'taken']);
    const missing = await machine.failure(file('/no/such', '/tmp/x'));
    expect(missing.message).toBe("the source of step 'copy' cannot be read");
    const owner = await machine.failure(file(source, join(machine.dir, 'b'), { owner: 'no-such-user' }));
    expect(owner.details[0]).toContain('no-such-user');
    expect(readdirSync(machine.dir).sort()).toEqual(['a', 'taken']);
  });

  it('refuses what is no file, folder or link, before anything is copied', async () => {
    const source = join(machine.dir, 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'a'), '');
    await runWith(['mkfifo', join(source, 'fifo')]);
    const error = await machine.failure(file(source, join(machine.dir, 'd')));
    expect(error.message).toContain('fifo is neither');
    expect(readdirSync(machine.dir)).toEqual(['source']);
  });
});
