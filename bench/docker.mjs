import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, time } from './measure.mjs';
import { boxName, createProject, tsv } from './project.mjs';

const imageName = 'tsv-bench:latest';

/**
 * The docker to compare with: the daemon that answers, or one started for this run only.
 * @param {{ dir: string, cleanup: (undo: () => unknown) => void, skip: (why: string) => void }} context
 * @returns undefined, after `skip` was told why, where there is none
 */
export async function openDocker({ dir, cleanup, skip }) {
  if (programPath('docker') === undefined) return skip('docker is not installed (Debian: docker.io)');
  let env = process.env;
  if (!(await answers(env))) {
    const dockerd = programPath('dockerd');
    if (dockerd === undefined || process.getuid() !== 0)
      return skip(`no docker daemon answers${dockerd === undefined ? '' : ', and only root can start one'}`);
    env = await startDaemon(dockerd, dir, cleanup);
  }
  const compose = await findCompose(env);
  if (compose === undefined) skip('docker compose is not installed (Debian: docker-compose)');
  let importing;
  return {
    time: (...args) => time(['docker', ...args], { env }),
    ...(compose === undefined
      ? {}
      : { compose: (...args) => time([...compose.argv, ...args], { env }), composeVersion: compose.version }),
    version: (await run(['docker', 'version', '--format', '{{.Server.Version}}'], { env })).stdout.trim(),
    /** Name of an image with the box's root file system. */
    image: () => (importing ??= importBox(env, dir, cleanup)),
  };
}

/** Absolute path of a program; undefined where it is not installed. */
export function programPath(name) {
  const folders = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin`.split(':');
  return folders.map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const succeeds = async (argv, env) => {
  try {
    await run(argv, { env });
    return true;
  } catch {
    return false;
  }
};

const answers = (env) => succeeds(['docker', 'version', '--format', '{{.Server.Version}}'], env);

/** The plugin (version 2) where it is there, else the older program of its own. */
async function findCompose(env) {
  for (const argv of [['docker', 'compose'], ['docker-compose']]) {
    if (programPath(argv[0]) === undefined || !(await succeeds([...argv, 'version', '--short'], env))) continue;
    return { argv, version: (await run([...argv, 'version', '--short'], { env })).stdout.trim() };
  }
  return undefined;
}

/**
 * A daemon in network, mount and PID namespaces of its own: its bridge, its firewall rules and its mounts are not the
 * host's, and all of it ends with its first process. Only its cgroups are left then, and are removed.
 */
async function startDaemon(dockerd, dir, cleanup) {
  const folder = (name) => join(dir, 'docker', name);
  mkdirSync(folder('exec'), { recursive: true });
  const socket = folder('docker.sock');
  const log = openSync(folder('log'), 'a');
  const script = `mount -t tmpfs tmpfs /run && ip link set lo up && exec ${dockerd} "$@"`;
  const argv = [
    // Were this process killed, the daemon would go with it.
    ...[
      'setpriv',
      '--pdeathsig',
      'KILL',
      'unshare',
      '--net',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child',
      '--mount-proc',
      'sh',
      '-c',
      script,
      'sh',
    ],
    ...[
      '--host',
      `unix://${socket}`,
      '--data-root',
      folder('data'),
      '--exec-root',
      folder('exec'),
      '--pidfile',
      folder('pid'),
    ],
  ];
  const before = cgroupFolders();
  const [file, ...args] = argv;
  const daemon = spawn(file, args, { detached: true, stdio: ['ignore', log, log] });
  const gone = once(daemon, 'exit');
  cleanup(async () => {
    daemon.kill('SIGKILL');
    await gone;
    for (const path of cgroupFolders()) if (!before.includes(path)) await removeCgroups(path);
  });
  const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
  for (let tries = 0; tries < 300; tries++) {
    if (daemon.exitCode !== null) break;
    if (existsSync(socket) && (await answers(env))) return env;
    await delay(100);
  }
  throw new Error(
    `dockerd does not answer:\n${readFileSync(folder('log'), 'utf8').trim().split('\n').slice(-5).join('\n')}`,
  );
}

/** Folders named `docker`, docker's default parent, in each hierarchy (v1) or the only one (v2). */
function cgroupFolders() {
  const root = '/sys/fs/cgroup';
  return [root, ...readdirSync(root).map((name) => join(root, name))]
    .map((path) => join(path, 'docker'))
    .filter((path) => existsSync(path));
}

/** A cgroup can be removed when its last process is gone, which is a moment after it was killed (EBUSY until then). */
async function removeCgroups(path) {
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await removeCgroups(join(path, entry.name));
  for (let tries = 0; ; tries++) {
    try {
      return rmdirSync(path);
    } catch (error) {
      if (error.code !== 'EBUSY' || tries === 100) throw error;
      await delay(50);
    }
  }
}

/** The image holds what a container of the box sees, read through one. */
async function importBox(env, dir, cleanup) {
  const project = createProject(
    join(dir, 'image'),
    `version: 1\nproject: bench-image\nmachines:\n  c: { image: ${boxName} }\n`,
  );
  cleanup(() => project.time('destroy', '-f'));
  await project.time('up', '--quiet');
  const [file, ...args] = [...tsv, 'exec', '--no-tty', 'c', '--', 'tar', '-C', '/', '--one-file-system', '-c', '.'];
  const tar = spawn(file, args, { cwd: project.dir, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(tar, 'exit');
  await run(['docker', 'import', '-', imageName], { env, input: tar.stdout });
  const [code] = await ended;
  if (code !== 0) throw new Error(`the root file system could not be read: tar ended with ${code}`);
  await project.time('destroy', '-f', '--quiet');
  cleanup(() => run(['docker', 'rmi', '--force', imageName], { env }));
  return imageName;
}
