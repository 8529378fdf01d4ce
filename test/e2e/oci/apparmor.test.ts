import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { cgroupsNamed, type Draft, ociHost, useRootfs } from '../../support/bundle.ts';
import { packageDir } from '../../support/cli.ts';
import { read } from '../../support/host-processes.ts';
import { isRoot } from '../../support/root.ts';

/* On a host with AppArmor. The profile is test/fixtures/apparmor/tsv-test, compiled; in-a-vm.test.ts runs this elsewhere. */

useRootfs();

const control = '/sys/kernel/security/apparmor';
const hasApparmor = isRoot && read(join(control, 'features/domain/version')) !== '';

beforeAll(() => {
  if (hasApparmor)
    writeFileSync(join(control, '.replace'), readFileSync(join(packageDir, 'test/fixtures/apparmor/tsv-test.bin')));
});
afterAll(() => {
  if (hasApparmor) writeFileSync(join(control, '.remove'), 'tsv-test');
});

const labelTest = (name: string, work: (context: TestContext) => Promise<void>) =>
  test(name, (context) => {
    if (!hasApparmor) context.skip('needs root, and AppArmor in the kernel');
    return work(context);
  });

const confined = (config: Draft) => {
  config.process.apparmorProfile = 'tsv-test';
};

describe('AppArmor', () => {
  labelTest('a profile holds for the process, and for one that is executed beside it', async () => {
    const box = ociHost().container('cat /proc/self/attr/current /etc/secret; exec sleep 1000', confined);
    box.file('etc/secret', 'secret');
    await box.ok('run --detach');
    expect(read(`/proc/${await box.pid()}/attr/current`)).toBe('tsv-test (enforce)\n');
    const script = 'cat /proc/self/attr/current /etc/secret';
    const beside = await box.call('exec', 'sh', '-c', script);
    expect(beside).toEqual({
      code: 1,
      stdout: 'tsv-test (enforce)\n',
      stderr: "cat: can't open '/etc/secret': Permission denied\n",
    });
    expect(box.output).toBe(beside.stdout);
    const other = await box.call('exec --apparmor unconfined', 'sh', '-c', script);
    expect(other).toEqual({ code: 0, stdout: 'unconfined\nsecret', stderr: '' });
  });

  labelTest('a profile that is not loaded is an error that names it, and leaves nothing', async () => {
    const box = ociHost().container('true', (config) => {
      config.process.apparmorProfile = 'tsv-unknown';
    });
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('process.apparmorProfile: ');
    expect(stderr).toContain('tsv-unknown');
    expect(cgroupsNamed(box.id)).toEqual([]);
  });
});
