import { beforeEach, describe, expect, test } from 'vitest';
import { createCgroup, updateCgroup } from '../../../src/cgroup/create.ts';
import { folderToJoin } from '../../../src/cgroup/join.ts';
import type { CgroupLayout } from '../../../src/cgroup/layout.ts';
import { placeBelowBase, placeCgroup } from '../../../src/cgroup/place.ts';
import type { OciResources } from '../../../src/oci/spec.ts';
import { errno, FakeKernel, failure } from './kernel.ts';

const strict = { strict: true };
const lenient = { strict: false };
const v1Controllers = ['memory', 'cpu', 'cpuset', 'pids', 'devices', 'freezer'];
const v1Layout: CgroupLayout = {
  mode: 'v1',
  hierarchies: v1Controllers.map((name) => ({
    version: 1,
    name,
    controllers: [name],
    mountPoint: `/c/${name}`,
    own: `/c/${name}`,
    base: `/c/${name}`,
  })),
};
const v2Controllers = ['cpuset', 'cpu', 'io', 'memory', 'hugetlb', 'pids'];
const v2Layout: CgroupLayout = {
  mode: 'v2',
  hierarchies: [{ version: 2, name: '', controllers: v2Controllers, mountPoint: '/c', own: '/c', base: '/c' }],
};
let v1: FakeKernel;
let v2: FakeKernel;
beforeEach(() => {
  v1 = v1Controllers.reduce((kernel, name) => kernel.hierarchy(1, `/c/${name}`, [name]), new FakeKernel());
  v1.file('/proc/self/uid_map', '         0          0 4294967295');
  v1.file('/proc/self/status', 'Name:\tnode\nUid:\t0\t0\t0\t0\n');
  v2 = new FakeKernel().hierarchy(2, '/c', v2Controllers);
});
const place = (layout: CgroupLayout, cgroupsPath = '/pod/web') => placeCgroup(layout, { cgroupsPath, id: 'x' });
const written = (kernel: FakeKernel, part: string) => kernel.log.filter((line) => line.includes(part));

describe('a cgroup of v1', () => {
  test('is a folder in each hierarchy; the freezer is joined last', () => {
    const { folders, missing, cgroup } = createCgroup(place(v1Layout), {}, strict, v1);
    expect(folders).toEqual(
      ['memory', 'cpu', 'cpuset', 'pids', 'devices', 'freezer'].map((name) => `/c/${name}/pod/web`),
    );
    expect(missing).toEqual([]);
    expect(cgroup.members).toHaveLength(6);
  });

  test('gets processors and memory from above, on every level', () => {
    createCgroup(place(v1Layout), { cpu: { cpus: '1' } }, strict, v1);
    expect(written(v1, 'cpuset.')).toEqual([
      '/c/cpuset/pod/cpuset.cpus = 0-3',
      '/c/cpuset/pod/cpuset.mems = 0',
      '/c/cpuset/pod/web/cpuset.cpus = 0-3',
      '/c/cpuset/pod/web/cpuset.mems = 0',
      '/c/cpuset/pod/web/cpuset.cpus = 1',
    ]);
  });

  test('may use the standard devices only, unless it asks for more', () => {
    createCgroup(
      place(v1Layout),
      { devices: [{ allow: true, type: 'c', major: 10, minor: 229, access: 'rw' }] },
      strict,
      v1,
    );
    const lines = written(v1, 'devices.').map((line) => line.replace('/c/devices/pod/web/devices.', ''));
    expect(lines.slice(0, 4)).toEqual(['deny = a', 'allow = c 10:229 rw', 'allow = c *:* m', 'allow = b *:* m']);
    expect(lines).toContain('allow = c 1:3 rwm');
  });

  test('is left alone in its devices by an update that does not name them', () => {
    const { cgroup } = createCgroup(place(v1Layout), {}, strict, v1);
    v1.log.length = 0;
    updateCgroup(cgroup, { pids: { limit: 5 } }, strict, v1);
    expect(v1.log).toEqual(['/c/pids/pod/web/pids.max = 5']);
  });

  test('gets memory after swap when the kernel wants it in this order', () => {
    let memsw = 1000n;
    v1.onWrite = (file, value) => {
      if (file.endsWith('memsw.limit_in_bytes')) memsw = BigInt(value);
      if (file.endsWith('memory.limit_in_bytes') && BigInt(value) > memsw) return errno('EINVAL');
      return undefined;
    };
    createCgroup(place(v1Layout), { memory: { limit: 5000, swap: 6000 } }, strict, v1);
    expect(v1.read('/c/memory/pod/web/memory.limit_in_bytes')).toBe('5000\n');
    v1.onWrite = (file) => (file.endsWith('memory.limit_in_bytes') ? errno('EINVAL') : undefined);
    expect(
      failure(() => createCgroup(place(v1Layout, '/a'), { memory: { limit: 5, swap: 6 } }, strict, v1)).message,
    ).toBe('linux.resources.memory.limit: the kernel does not accept it: EINVAL');
  });

  test('has no unified settings', () => {
    const error = failure(() => createCgroup(place(v1Layout), { unified: { 'memory.high': '1' } }, strict, v1));
    expect(error).toMatchObject({
      code: 'TSV_CGROUP',
      message: 'linux.resources.unified["memory.high"]: this host has no cgroup v2',
    });
  });

  test.each<[string, OciResources, string, RegExp]>([
    [
      'EBUSY',
      { memory: { limit: 4096 } },
      'memory.limit_in_bytes',
      /^linux\.resources\.memory\.limit: more is in use already \(0 bytes\): EBUSY/,
    ],
    ['EACCES', { pids: { limit: 5 } }, 'pids.max', /^linux\.resources\.pids\.limit: it may not be set here: EACCES/],
    [
      'ENOENT',
      { cpu: { burst: 5 } },
      'cpu.cfs_burst_us',
      /^linux\.resources\.cpu\.burst: this kernel has no cpu.cfs_burst_us here/,
    ],
    [
      'EINVAL',
      { cpu: { cpus: '99' } },
      'cpuset.cpus',
      /^linux\.resources\.cpu\.cpus: the kernel does not accept it: EINVAL/,
    ],
  ])(
    'that the kernel refuses with %s says what it was asked for, and leaves nothing',
    (code, resources, file, message) => {
      v1.onWrite = (path, value) => (path.endsWith(`/web/${file}`) && value !== '0-3' ? errno(code) : undefined);
      const before = v1.folders();
      const error = failure(() => createCgroup(place(v1Layout), resources, strict, v1));
      expect(error).toMatchObject({ code: 'TSV_CGROUP', message: expect.stringMatching(message) });
      expect(error.details[0]).toMatch(new RegExp(`^writing '.*' to /c/.*/pod/web/${file}: ${code}$`));
      expect(v1.folders()).toEqual(before);
    },
  );

  test('says what the kernel made of too few shares', () => {
    v1.onWrite = (file) => (file.endsWith('cpu.shares') ? '2' : undefined);
    expect(failure(() => createCgroup(place(v1Layout), { cpu: { shares: 1 } }, strict, v1)).message).toBe(
      'linux.resources.cpu.shares: the nearest that the kernel allows is 2',
    );
  });

  test('without a controller names the limit, or collects it', () => {
    const some = { ...v1Layout, hierarchies: v1Layout.hierarchies.filter(({ name }) => name !== 'cpu') };
    const resources = { cpu: { quota: 5000 }, pids: { limit: 5 } };
    expect(failure(() => createCgroup(place(some), resources, strict, v1)).message).toBe(
      "linux.resources.cpu.quota: this host has no cgroup controller 'cpu'",
    );
    const { missing } = createCgroup(place(some), resources, lenient, v1);
    expect(missing).toEqual([
      { controller: 'cpu', field: 'linux.resources.cpu.quota', reason: "this host has no cgroup controller 'cpu'" },
    ]);
    expect(v1.read('/c/pids/pod/web/pids.max')).toBe('5\n');
  });

  test('that is there already is set again; its processes are told of', () => {
    createCgroup(place(v1Layout), {}, strict, v1);
    v1.file('/c/memory/pod/web/cgroup.procs', '4000000\n4000001');
    const { warnings } = createCgroup(place(v1Layout), { pids: { limit: 7 } }, strict, v1);
    expect(warnings).toEqual(['the cgroup /c/memory/pod/web holds 2 other processes already']);
    expect(v1.read('/c/pids/pod/web/pids.max')).toBe('7\n');
  });

  test('that is frozen, or holds this process, takes no container', () => {
    createCgroup(place(v1Layout), {}, strict, v1);
    v1.file('/c/freezer/pod/web/freezer.state', 'FROZEN').file('/c/freezer/pod/web/freezer.self_freezing', '1');
    expect(failure(() => createCgroup(place(v1Layout), {}, strict, v1)).message).toMatch(/is frozen$/);
    v1.file('/c/freezer/pod/web/freezer.state', 'THAWED').file('/c/cpu/pod/web/cgroup.procs', `${process.pid}`);
    expect(failure(() => createCgroup(place(v1Layout), {}, strict, v1)).message).toMatch(
      /is the cgroup of tsv itself$/,
    );
    expect(v1.folders(), 'it was not made here').toContain('/c/cpu/pod/web');
  });
});

describe('a cgroup of v2', () => {
  test('gets its controllers from every cgroup above, but hands none on', () => {
    const { folders } = createCgroup(place(v2Layout), {}, strict, v2);
    expect(folders).toEqual(['/c/pod/web']);
    expect(v2.log).toEqual([
      '/c/cgroup.subtree_control = +cpuset +cpu +io +memory +hugetlb +pids',
      '/c/pod/cgroup.subtree_control = +cpuset +cpu +io +memory +hugetlb +pids',
    ]);
    createCgroup(place(v2Layout, '/pod/db'), {}, strict, v2);
    expect(v2.log, 'what is handed down already is not asked for again').toHaveLength(2);
  });

  test('gets the controllers that can be handed down when one cannot', () => {
    v2.onWrite = (_, value) => (/\+cpu( |$)/.test(value) ? errno('EINVAL') : undefined);
    createCgroup(place(v2Layout), { memory: { limit: 4096 } }, strict, v2);
    expect(v2.read('/c/pod/web/cgroup.controllers')).toBe('cpuset io memory hugetlb pids\n');
    expect(failure(() => createCgroup(place(v2Layout, '/b'), { cpu: { quota: 5000 } }, strict, v2)).message).toBe(
      "linux.resources.cpu.quota: /c does not hand the controller 'cpu' down",
    );
  });

  test('below processes has no controllers, and says so', () => {
    const layout: CgroupLayout = {
      mode: 'v2',
      hierarchies: v2Layout.hierarchies.map((one) => ({ ...one, base: '/c/user' })),
    };
    v2.makeFolder('/c/user');
    v2.write('/c/cgroup.subtree_control', '+memory');
    v2.file('/c/user/cgroup.procs', '4000000');
    v2.locked.add('/c');
    const cgroup = placeBelowBase(layout, 'tsv/id/web');
    const { missing, folders } = createCgroup(cgroup, { memory: { limit: 4096 }, pids: { limit: 5 } }, lenient, v2);
    expect(missing.map(({ reason }) => reason)).toEqual([
      "/c/user holds processes itself and cannot hand the controller 'memory' down",
      "/c does not hand the controller 'pids' down",
    ]);
    expect(folders).toEqual(['/c/user/tsv/id/web']);
  });

  test('has the controllers of the host, though the slice that it lies in had none', () => {
    const slice = { own: '/c/system.slice/ssh.service', base: '/c' };
    const layout: CgroupLayout = { mode: 'v2', hierarchies: v2Layout.hierarchies.map((one) => ({ ...one, ...slice })) };
    v2.makeFolder('/c/system.slice');
    const { folders } = createCgroup(placeCgroup(layout, { id: 'web' }), { cpu: { quota: 5000 } }, strict, v2);
    expect(folders).toEqual(['/c/system.slice/web']);
    expect(v2.read('/c/system.slice/web/cpu.max')).toBe('5000\n');
  });

  test('of processors that are not there is an error: the kernel would use others', () => {
    const asked = { cpu: { cpus: '2-3' } };
    v2.onWrite = (file, value) => {
      if (file.endsWith('/cpuset.cpus'))
        v2.file(file.replace(/cpus$/, 'cpus.effective'), value === '2-3' ? '0-1' : '0');
      return undefined;
    };
    expect(failure(() => createCgroup(place(v2Layout), asked, strict, v2)).message).toBe(
      'linux.resources.cpu.cpus: there is none of them here; the kernel uses 0-1 instead',
    );
    expect(createCgroup(place(v2Layout), { cpu: { cpus: '0-7' } }, strict, v2).missing).toEqual([]);
  });

  test('is refused to a user who named it, and done without by one who did not', () => {
    v2.locked.add('/c');
    const error = failure(() => createCgroup(place(v2Layout), {}, strict, v2));
    expect(error).toMatchObject({
      code: 'TSV_CGROUP',
      message: 'linux.cgroupsPath: /c/pod/web cannot be made: EACCES',
    });
    const unnamed = placeCgroup(v2Layout, { id: 'web' });
    expect(createCgroup(unnamed, {}, strict, v2)).toMatchObject({ folders: [], missing: [], cgroup: { members: [] } });
    expect(failure(() => createCgroup(unnamed, { pids: { limit: 5 } }, strict, v2)).message).toBe(
      'linux.resources.pids.limit: this user may make no cgroup in /c/web',
    );
    expect(createCgroup(unnamed, { pids: { limit: 5 } }, lenient, v2).missing).toMatchObject([{ controller: 'pids' }]);
  });

  test("is none for a user without one of its own, who hears which limits don't hold", () => {
    const layout: CgroupLayout = {
      mode: 'v2',
      hierarchies: v2Layout.hierarchies.map(({ base: _, ...hierarchy }) => hierarchy),
    };
    const resources = { memory: { limit: 4096 }, pids: { limit: 5 }, blockIO: { weight: 20 } };
    const { missing, folders } = createCgroup(placeBelowBase(layout, 'tsv/id/web'), resources, lenient, v2);
    expect(folders).toEqual([]);
    expect(missing.map(({ reason }) => reason)).toEqual(
      ['memory', 'pids', 'io'].map((name) => `this user has no cgroup of its own with the controller '${name}'`),
    );
  });

  test('is handed to its owner, with the files that may be, and no others', () => {
    v2.file('/sys/kernel/cgroup/delegate', 'cgroup.procs\ncgroup.threads\ncgroup.subtree_control\nmemory.oom.group');
    createCgroup(place(v2Layout), {}, { strict: true, ownerUid: 100_000 }, v2);
    expect([...v2.owners.keys()].sort()).toEqual(
      ['', '/cgroup.procs', '/cgroup.subtree_control', '/cgroup.threads'].map((name) => `/c/pod/web${name}`),
    );
    v2.chown = () => {
      throw errno('EPERM');
    };
    createCgroup(place(v2Layout), {}, { strict: true, ownerUid: 100_000 }, v2); // of a user, who can give nothing away
  });

  test('is joined where the container has its own PID 1, once it has divided it', () => {
    createCgroup(place(v2Layout), {}, strict, v2);
    v2.makeFolder('/c/pod/web/init');
    v2.file('/c/pod/web/init/cgroup.procs', '12\n70');
    expect(folderToJoin('/c/pod/web', 70, v2)).toBe('/c/pod/web');
    v2.write('/c/pod/web/cgroup.subtree_control', '+pids');
    expect(folderToJoin('/c/pod/web', 70, v2)).toBe('/c/pod/web/init');
    expect(folderToJoin('/c/pod/web', 7, v2), 'it is elsewhere').toBe('/c/pod/web');
  });

  test('refuses a limit below what is used when asked to look before', () => {
    const { cgroup } = createCgroup(place(v2Layout), {}, strict, v2);
    v2.file('/c/pod/web/memory.current', '5000');
    const limit = (memory: OciResources['memory']) => updateCgroup(cgroup, { memory: memory ?? {} }, strict, v2);
    expect(failure(() => limit({ limit: 4096, checkBeforeUpdate: true })).message).toBe(
      'linux.resources.memory.limit: more is in use already (5000 bytes): EBUSY',
    );
    limit({ limit: 8192, checkBeforeUpdate: true });
    limit({ limit: 4096 });
    expect(v2.read('/c/pod/web/memory.max')).toBe('4096\n');
  });

  test('does without files for swap when no swap was to be had', () => {
    v2.onWrite = (file) => (file.endsWith('memory.swap.max') ? errno('ENOENT') : undefined);
    createCgroup(place(v2Layout), { memory: { limit: 4096, swap: 4096 } }, strict, v2);
    expect(
      failure(() => createCgroup(place(v2Layout, '/b'), { memory: { limit: 4096, swap: 5000 } }, strict, v2)).message,
    ).toBe('linux.resources.memory.swap: this kernel has no memory.swap.max here');
  });

  test('takes its own files by name, above what was converted', () => {
    const unified = { 'memory.high': '5000', 'cgroup.freeze': '0', 'pids.max': '9' };
    createCgroup(place(v2Layout), { pids: { limit: 5 }, unified }, strict, v2);
    expect(v2.read('/c/pod/web/pids.max')).toBe('9\n');
    expect(v2.read('/c/pod/web/memory.high')).toBe('5000\n');
    const devices = '8:0 rbps=1\n8:16 rbps=2\n';
    createCgroup(place(v2Layout), { unified: { 'io.max': devices } }, strict, v2);
    expect(written(v2, 'io.max'), 'one line at a time').toEqual([
      '/c/pod/web/io.max = 8:0 rbps=1',
      '/c/pod/web/io.max = 8:16 rbps=2',
    ]);
    const fails = (name: string) =>
      failure(() => createCgroup(place(v2Layout, '/b'), { unified: { [name]: '1' } }, strict, v2)).message;
    expect(fails('../memory.high')).toBe(
      'linux.resources.unified["../memory.high"]: it is no name of a file such as memory.high',
    );
    expect(fails('rdma.max')).toMatch(
      /^linux\.resources\.unified\["rdma\.max"\]: cgroup v2 has no controller 'rdma' here, only: cpuset cpu/,
    );
    expect(fails('memory.none')).toBe('linux.resources.unified["memory.none"]: the kernel does not accept it: ENOENT');
  });

  test('cannot lie in a threaded cgroup', () => {
    v2.makeFolder('/c/pod');
    v2.makeFolder('/c/pod/web');
    v2.file('/c/pod/web/cgroup.type', 'domain invalid');
    expect(failure(() => createCgroup(place(v2Layout), {}, strict, v2)).message).toMatch(/lies in a threaded cgroup/);
  });

  test('does not filter devices for who is no root of the host; that is no error', () => {
    const devices = [{ allow: false, access: 'rwm' }];
    expect(createCgroup(place(v2Layout), { devices }, strict, v2).missing).toMatchObject([{ controller: 'devices' }]);
    expect(createCgroup(place(v2Layout, '/b'), {}, strict, v2).missing).toEqual([]);
  });
});
