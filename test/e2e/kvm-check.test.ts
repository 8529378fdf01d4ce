import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readKvmHost } from '../../src/kvm/host.ts';
import { packageDir, start, tsvProgram } from '../support/cli.ts';
import { fixture } from '../support/fixture.ts';
import { isRoot } from '../support/root.ts';

interface Printed {
  readonly usable: boolean;
  readonly steps: readonly { readonly step: string; readonly result: string; readonly ms?: number }[];
  readonly failure?: { readonly step: string; readonly errno?: string; readonly what: string; readonly mend?: string };
}

describe('tsv kvm-check', () => {
  test('says without a Tsfile whether KVM can be used, as text, as JSON and by its exit code, and doctor says the same', async () => {
    const project = fixture({ 'readme.txt': 'no Tsfile here' });
    const json = await project.tsv('kvm-check --json');
    const { usable, steps, failure } = JSON.parse(json.stdout) as Printed;
    expect(json).toMatchObject({ code: usable ? 0 : 1, stderr: '' });
    expect(steps.map(({ step }) => step)).toEqual(expect.arrayContaining(['open', 'real-mode', 'long-mode']));
    expect(steps.every(({ result }) => result === 'ok')).toBe(usable);

    const { code, stdout } = await project.tsv('kvm-check --verbose');
    expect(code).toBe(usable ? 0 : 1);
    if (usable) expect(stdout).toMatch(/KVM_RUN \(0xae80\) .*KVM_EXIT_HLT\n[\s\S]*^KVM can be used: /m);
    else expect(stdout).toContain(`KVM cannot be used: ${failure?.what}`);

    const store = join(project.dir, 'store');
    const doctor = await project.tsv('doctor --json', { env: { TSV_STORE: store } });
    const rows = JSON.parse(doctor.stdout) as { id: string; detail: string }[];
    const detail = rows.find(({ id }) => id === 'kvm')?.detail;
    if (usable) expect(detail).toMatch(/^guests of a few instructions run on it; /);
    else if (failure?.step !== 'open') expect(detail).toContain(failure?.what);
    expect(existsSync(store) ? readdirSync(store) : [], 'doctor keeps nothing').toEqual([]);
  });

  test('of a user without rights on /dev/kvm ends with 1, the errno and the commands that give them', async (context) => {
    const { device, deviceMode } = readKvmHost();
    if (deviceMode === '') return context.skip('there is no /dev/kvm');
    if (deviceMode.endsWith('666')) return context.skip('everybody may use /dev/kvm');
    if (!isRoot && device === 'open') return context.skip('this user may use /dev/kvm, and cannot become another');
    const other = isRoot ? ['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups'] : [];
    const run = (...args: string[]) =>
      start('/', [...other, process.execPath, tsvProgram, 'kvm-check', ...args], { input: '' }).result;
    if (isRoot && (await start('/', [...other, 'test', '-r', tsvProgram], { input: '' }).result).code !== 0)
      return context.skip(`other users cannot read ${packageDir}`);
    const json = await run('--json');
    expect(json).toMatchObject({ code: 1, stderr: '' });
    expect((JSON.parse(json.stdout) as Printed).failure).toMatchObject({
      step: 'open',
      errno: 'EACCES',
      mend: expect.stringMatching(/sudo usermod --append --groups \S+ \S+|newgrp/),
    });
    const { stdout } = await run();
    expect(stdout).toMatch(/^. +open the device .*open failed with EACCES$/m);
    expect(stdout).toMatch(/^. +run a guest in real mode .*not tried$/m);
    expect(stdout).toMatch(
      /^KVM cannot be used: open the device: .*\n\/dev\/kvm may not be opened by this user .*\nto mend:\n {2}/m,
    );
  });
});
