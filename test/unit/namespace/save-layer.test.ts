import { chmodSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { saveUpper } from '../../../providers/namespace/save-layer.ts';

/** What a host has that cannot hold processes still. */
const noFreezer = { members: [], explicit: false };

function lab() {
  const dir = mkdtempSync(join(tmpdir(), 'tsv-layer-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const at = (name: string) => join(dir, name);
  for (const name of ['upper', 'layer', 'volume', 'bin']) mkdirSync(at(name));
  writeFileSync(at('upper/file'), 'before');
  const volume = { what: 'the volume /data', open: () => openSync(at('volume'), 'r') };
  const save = (since: Date, signal = new AbortController().signal) =>
    saveUpper(at('upper'), { folder: at('layer'), since, signal }, noFreezer, [volume]);
  return { at, save };
}
const later = () => new Date(Date.now() + 60_000);

/** Has copies made by this script, with the arguments of cp(1). */
function copyWith(bin: string, script: string): void {
  writeFileSync(join(bin, 'cp'), `#!/bin/sh\n${script}`);
  chmodSync(join(bin, 'cp'), 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${bin}:${PATH}`;
  onTestFinished(() => {
    process.env.PATH = PATH;
  });
}

test('without a freezer, files that stayed as they were are a layer, and ones that changed as they were copied are none', async () => {
  const { at, save } = lab();
  await save(later());
  expect(readFileSync(at('layer/fs/file'), 'utf8')).toBe('before');
  rmSync(at('layer/fs'), { recursive: true });
  copyWith(at('bin'), `/bin/cp "$@" && echo after >${at('upper/file')}`);
  await expect(save(later())).rejects.toMatchObject({
    code: 'TSV_CACHE',
    message: 'its files changed while they were copied',
  });
});

test('what is newer than the start, in a place that no layer holds, is named, and nothing is copied', async () => {
  const { at, save } = lab();
  writeFileSync(at('volume/new'), '');
  await expect(save(new Date(0))).rejects.toMatchObject({
    message: 'the volume /data has changed, which is not in a layer',
  });
  expect(() => readFileSync(at('layer/fs/file'))).toThrow('ENOENT');
});

test('a copy that is not whole is an error with the words of cp, and one that is given up ends', async () => {
  const { at, save } = lab();
  copyWith(at('bin'), 'echo "cp: it is full" >&2; exit 1');
  await expect(save(later())).rejects.toMatchObject({ code: 'TSV_CACHE', details: ['cp: it is full'] });
  rmSync(at('layer/fs'), { recursive: true });
  copyWith(at('bin'), 'exec sleep 1000');
  await expect(save(later(), AbortSignal.abort())).rejects.toMatchObject({ name: 'AbortError' });
});
