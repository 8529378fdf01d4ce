// Makes this checkout ready: programs of the host, npm packages, the built command. Runs before `npm run demo` and
// `npm test`; a second run finds all of it done.
//
//   node setup.mjs [--tests] [--quiet]       what is missing; as root it is installed, else the commands are printed
//   node setup.mjs --user NAME [--tests]     as root: what an ordinary user cannot do alone
import { execFileSync, spawnSync } from 'node:child_process';
import {
  accessSync,
  appendFileSync,
  chmodSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const root = import.meta.dirname;
const { values: options } = parseArgs({
  options: { tests: { type: 'boolean' }, quiet: { type: 'boolean' }, user: { type: 'string' } },
});
const isRoot = process.getuid() === 0;

const say = (text) => console.error(`setup: ${text}`);
const fail = (text) => {
  console.error(`setup: ${text}`);
  process.exit(1);
};
const run = (file, args, more = {}) => {
  const { status, error } = spawnSync(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...more });
  if (status !== 0) fail(`${file} ${args.join(' ')} failed${error === undefined ? '' : `: ${error.message}`}`);
};
const changedAt = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

checkPlatform();
if (options.user !== undefined) setUpUser(options.user);
else {
  installPrograms(isRoot ? ['all', 'vm'] : ['all', 'user', 'vm']);
  if (!isRoot) checkUser();
  installPackages();
  build();
  if (!options.quiet) say('everything is there');
}

function checkPlatform() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19))
    fail(`Node ${process.versions.node} is too old; 20.19 or later is needed`);
  if (process.platform !== 'linux' || process.arch !== 'x64')
    fail(`tsv runs on Linux on x86-64, not on ${process.platform} on ${process.arch}`);
}

function missingPackages(groups) {
  const programs = JSON.parse(readFileSync(join(root, 'src/app/host-programs.json'), 'utf8'));
  const folders = `${process.env.PATH}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`.split(':');
  const isThere = (program) => folders.some((folder) => isAllowed(join(folder, program), constants.X_OK));
  const needed = [...groups, ...(options.tests ? ['tests'] : [])].flatMap((group) => programs[group]);
  return [...new Set(needed.filter(({ program }) => !isThere(program)).map((entry) => entry.package))];
}

function installPrograms(groups) {
  const packages = missingPackages(groups);
  if (packages.length === 0) return;
  if (!isRoot)
    fail(
      `this host lacks ${packages.join(', ')}. As root:\n  ${userCommand()}\nwhich installs them, or\n  apt-get install -y --no-install-recommends ${packages.join(' ')}`,
    );
  say(`installing ${packages.join(' ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['update', '-q'], { env });
  withoutServices(() => run('apt-get', ['install', '-qy', '--no-install-recommends', ...packages], { env }));
}

/** Packages are wanted for their programs: nothing that they bring is started (invoke-rc.d(8), policy-rc.d). */
function withoutServices(install) {
  const policy = '/usr/sbin/policy-rc.d';
  const own = !existsSync(policy);
  if (own) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  process.on('exit', () => own && rmSync(policy, { force: true }));
  install();
}

function userCommand() {
  return `node ${join(root, 'setup.mjs')} --user ${userName()}${options.tests ? ' --tests' : ''}`;
}

function userName() {
  return execFileSync('id', ['-un'], { encoding: 'utf8' }).trim();
}

/** What only root can give a user: looked at here, given by {@link setUpUser}. */
function checkUser() {
  const lacks = [
    ...(hasIds('/etc/subuid', userName()) && hasIds('/etc/subgid', userName())
      ? []
      : ['a range of 65536 ids in /etc/subuid and /etc/subgid']),
    ...(isAllowed('/dev/net/tun', constants.R_OK | constants.W_OK) ? [] : ['/dev/net/tun that it may open']),
  ];
  if (lacks.length > 0) fail(`user ${userName()} lacks ${lacks.join(' and ')}. As root, once:\n  ${userCommand()}`);
}

function setUpUser(name) {
  if (!isRoot) fail(`--user changes the host and is for root: sudo ${userCommand()}`);
  if (spawnSync('id', ['-u', name]).status !== 0) fail(`there is no user ${name}`);
  installPrograms(['all', 'user', 'vm']);
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    if (hasIds(file, name)) continue;
    const line = `${name}:${nextRange(file)}:65536`;
    appendFileSync(file, `${line}\n`);
    say(`${file}: ${line}`);
  }
  const tun = '/dev/net/tun';
  if (!existsSync(tun) && spawnSync('modprobe', ['tun']).status !== 0) {
    run('mkdir', ['-p', '/dev/net']);
    run('mknod', [tun, 'c', '10', '200']);
  }
  if ((statSync(tun).mode & 0o666) !== 0o666) {
    chmodSync(tun, 0o666);
    say(`${tun}: mode 0666, as udev makes it`);
  }
  if (!options.quiet) say(`user ${name} can use tsv`);
}

/** subuid(5): `NAME:FIRST:COUNT`. */
function ranges(file) {
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  return lines
    .map((line) => line.split(':'))
    .map(([name, first, count]) => ({ name, first: Number(first), count: Number(count) }));
}

function hasIds(file, name) {
  return ranges(file).some((range) => range.name === name && range.count >= 65535);
}

function nextRange(file) {
  return Math.max(
    100_000,
    ...ranges(file)
      .filter(({ count }) => count > 0)
      .map(({ first, count }) => first + count),
  );
}

/** npm notes in node_modules what it has installed. */
function installPackages() {
  if (changedAt(join(root, 'node_modules/.package-lock.json')) >= changedAt(join(root, 'package-lock.json'))) return;
  say('npm ci');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}

function build() {
  const sources = ['src', 'providers', 'build.mjs', 'package.json'].map((name) => newest(join(root, name)));
  if (changedAt(join(root, 'dist/tsv.js')) >= Math.max(...sources)) return;
  say('npm run build');
  run('npm', ['run', '--silent', 'build']);
}

function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(...readdirSync(path).map((name) => newest(join(path, name))));
}

function isAllowed(path, mode) {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
