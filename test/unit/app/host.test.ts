import { describe, expect, test } from 'vitest';
import { hostRequirements, requirePossible } from '../../../src/app/host.ts';
import { mendCommands } from '../../../src/model/mend.ts';
import type { Requirement } from '../../../src/model/provider.ts';
import { container, project, vm } from '../plan/fixtures.ts';

const ids = (...of: Parameters<typeof hostRequirements>) => hostRequirements(...of).map(({ id }) => id);
const missing = (id: string, mend?: string): Requirement => ({
  id,
  description: `for ${id}`,
  ok: false,
  required: true,
  detail: `${id} is missing`,
  ...(mend === undefined ? {} : { mend }),
});
const install = 'sudo apt-get install -y --no-install-recommends';

describe('what a host must have', () => {
  test('depends on who asks: a user needs id ranges, their tools and a way out of its own', () => {
    const forRoot = ids(['container'], 0);
    const forUser = ids(['container'], 1000);
    expect(forRoot).toEqual(expect.arrayContaining(['unshare', 'nsenter', 'ip', 'nft', 'dnsmasq', 'user-namespaces']));
    // Disks of containers are for root alone.
    expect(forRoot.filter((id) => !forUser.includes(id))).toEqual(['disks']);
    expect(forUser.filter((id) => !forRoot.includes(id)).sort()).toEqual(['newuidmap', 'slirp4netns', 'subuid', 'tun']);
  });

  test('is root for disks of containers: all machines that have some are named, before anything is made', () => {
    const disks = [{ name: 'data', sizeBytes: 1 << 30, mount: '/data' }];
    const asked = project([container('a', { disks }), container('b'), container('c', { disks }), vm('d', { disks })]);
    expect(() => requirePossible(asked, 0)).not.toThrow();
    expect(() => requirePossible(asked, 1000)).toThrow(
      expect.objectContaining({
        code: 'TSV_UNSUPPORTED',
        details: ['a', 'c'].map((name) => expect.stringMatching(`^${name}: disks of a container need root`)),
      }),
    );
  });

  test('depends on the kinds of machines: QEMU is for VMs', () => {
    expect(ids(['container'], 0).filter((id) => id.startsWith('qemu'))).toEqual([]);
    expect(ids(['vm'], 0)).toEqual(expect.arrayContaining(['qemu-system-x86_64', 'qemu-img', 'tun']));
  });

  test('is said once each, for what, and with a command that mends it', () => {
    for (const uid of [0, 1000]) {
      const requirements = hostRequirements(['vm', 'container'], uid);
      expect(new Set(requirements.map(({ id }) => id)).size).toBe(requirements.length);
      for (const { description, detail, ok, mend } of requirements) {
        expect(description).not.toBe('');
        expect(detail).not.toBe('');
        if (!ok) expect(mend).toMatch(/^sudo /);
      }
    }
  });
});

describe('the commands that mend a host', () => {
  test('install all packages at once, each once, at the place of the first', () => {
    expect(
      mendCommands([
        missing('tun', 'sudo modprobe tun'),
        missing('ip', `${install} iproute2`),
        missing('unshare', `${install} util-linux`),
        missing('nsenter', `${install} util-linux`),
        missing('two', `${install} a b`),
        missing('again', 'sudo modprobe tun'),
      ]),
    ).toEqual(['sudo modprobe tun', `${install} iproute2 util-linux a b`]);
  });

  test('are none for what is there, or cannot be mended', () => {
    expect(mendCommands([{ ...missing('ip', `${install} iproute2`), ok: true }, missing('kvm')])).toEqual([]);
    expect(mendCommands([])).toEqual([]);
  });

  test('are only the others when no package is missing', () => {
    expect(mendCommands([missing('tun', 'sudo modprobe tun')])).toEqual(['sudo modprobe tun']);
  });
});
