import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };

test('the installed command starts by its name, through a link and from any folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tsv-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  symlinkSync(join(process.cwd(), packageJson.bin.tsv), join(folder, 'tsv'));
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}` };
  expect(execFileSync('tsv', ['--version'], { cwd: folder, env, encoding: 'utf8' })).toBe(`${packageJson.version}\n`);
  expect(execFileSync('tsv', ['init', '--list'], { cwd: folder, env, encoding: 'utf8' })).toContain('load-balancer');
});
