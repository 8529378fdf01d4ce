// Ten thousand starts and ends of containers by one agent, and a thousand of `tsv oci run`: what grows?
//
//   node bench/soak.mjs [--cycles N] [--oci-cycles N] [--replicas N]
//
// One container holds the agent; the others come and go with `tsv up` and `tsv destroy`, `--replicas` at a time. Prints
// what the agent has (resident memory, descriptors, threads) at every tenth, and what the host has before and after.
// Nothing is asserted but that all commands succeed, and that nothing of its own is left on the host; what others did
// meanwhile is printed too.
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { programPath } from './docker.mjs';
import { run } from './measure.mjs';
import { makeBundle } from './oci.mjs';
import { boxName, buildBox, createProject, tsv } from './project.mjs';

const { values } = parseArgs({
  options: {
    cycles: { type: 'string', default: '10000' },
    'oci-cycles': { type: 'string', default: '1000' },
    replicas: { type: 'string', default: '40' },
  },
});
const [cycles, ociCycles, replicas] = [values.cycles, values['oci-cycles'], values.replicas].map(Number);
const tenths = 10;

const read = (file) => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return ''; // gone meanwhile
  }
};
const list = (folder) => {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
};

/** @returns {string[]} folders below /sys/fs/cgroup, all hierarchies */
const cgroups = (folder = '/sys/fs/cgroup') =>
  list(folder).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? [path, ...cgroups(path)] : [];
  });

/** What could be left on the host, by name: two of these are compared. A process is its start time and its name. */
const lookAtHost = () => ({
  mounts: read('/proc/self/mountinfo')
    .trim()
    .split('\n')
    .map((line) => line.split(' ')[4]),
  cgroups: cgroups(),
  processes: list('/proc')
    .filter(({ name }) => /^\d+$/.test(name))
    .flatMap(({ name }) => {
      const stat = read(`/proc/${name}/stat`);
      const command = stat.slice(stat.indexOf('('), stat.lastIndexOf(')') + 1);
      // The kernel's own come and go (2 is kthreadd).
      return stat === '' || stat.slice(stat.lastIndexOf(')')).split(' ')[2] === '2' ? [] : [`${name} ${command}`];
    }),
  interfaces: list('/sys/class/net').map(({ name }) => name),
  '/run': list('/run').map(({ name }) => name),
  '/tmp': list(tmpdir()).map(({ name }) => name),
  '/dev/shm': list('/dev/shm').map(({ name }) => name),
  'net namespaces': [
    ...new Set(
      list('/proc').flatMap(({ name }) => {
        try {
          return /^\d+$/.test(name) ? [readlinkSync(`/proc/${name}/ns/net`)] : [];
        } catch {
          return [];
        }
      }),
    ),
  ],
});

const lookAtAgent = (pid) => {
  const status = read(`/proc/${pid}/status`);
  const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return { 'RSS MiB': field('VmRSS') / 1024, descriptors: list(`/proc/${pid}/fd`).length, threads: field('Threads') };
};

/** Calls `work` `times` times and prints a line at every tenth. */
async function inTenths(what, times, work, look) {
  const line = (count, ms) => {
    const found = Object.entries(look()).map(([name, value]) => `${name} ${Math.round(value * 10) / 10}`);
    console.log([`${what} ${count}`, `${(ms / 1000).toFixed(0)} s`, ...found].join(', '));
  };
  const start = performance.now();
  line(0, 0);
  for (let done = 0; done < times; ) {
    const tenth = Math.floor((done * tenths) / times);
    done += await work();
    if (Math.floor((done * tenths) / times) > tenth) line(done, performance.now() - start);
  }
}

const dir = mkdtempSync(join(tmpdir(), 'tsv-soak-'));
let failed = false;
let own = /tsv-soak/;
try {
  await buildBox('container');
  const before = lookAtHost();
  if (cycles > 0) {
    const tsfile = `version: 1\nproject: soak\nmachines:\n  keeper: { image: ${boxName} }\n  c: { image: ${boxName}, replicas: ${replicas} }\n`;
    const project = createProject(join(dir, 'project'), tsfile);
    try {
      await project.time('up', '--quiet', 'keeper');
      own = new RegExp(`tsv-soak|${JSON.parse(read(join(project.dir, '.ts-vm/state.json'))).projectId}`);
      const holder = JSON.parse(read(join(project.dir, '.ts-vm/lock.holder')));
      const cycle = async () => {
        await project.time('up', '--quiet', 'c');
        await project.time('destroy', '-f', '--quiet', 'c');
        return replicas;
      };
      await inTenths('containers', cycles, cycle, () => lookAtAgent(holder.pid));
    } finally {
      await project.time('destroy', '-f', '--quiet');
    }
  }
  const busybox = programPath('busybox');
  if (ociCycles > 0 && process.getuid() === 0 && busybox !== undefined) {
    const bundle = await makeBundle(join(dir, 'bundle'), busybox);
    let count = 0;
    const once = async () => {
      await run([...tsv, 'oci', 'run', '--bundle', bundle, `tsv-soak-${process.pid}-${count++}`]);
      return 1;
    };
    await inTenths('tsv oci run', ociCycles, once, () =>
      Object.fromEntries(Object.entries(lookAtHost()).map(([name, entries]) => [name, entries.length])),
    );
  } else if (ociCycles > 0) console.log('tsv oci run: needs root and busybox (Debian: busybox-static)');
  const after = lookAtHost();
  for (const [what, names] of Object.entries(after)) {
    const added = names.filter((name) => !before[what].includes(name));
    console.log(
      `${what}: ${before[what].length} before, ${names.length} after${added.map((name) => `\n  + ${name}`).join('')}`,
    );
    failed ||= added.some((name) => own.test(name) && !dir.endsWith(name));
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
if (failed) {
  console.error('soak: something of tsv is left on the host');
  process.exitCode = 1;
}
