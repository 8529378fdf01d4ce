import { readFileSync } from 'node:fs';
import { arch, cpus, loadavg, totalmem } from 'node:os';
import { programPath } from './docker.mjs';
import { run } from './measure.mjs';

/** What the figures depend on, as lines of text. Nothing in it says whose machine it is. */
export async function describeMachine({ loadBefore, docker }) {
  const model = cpus()[0]?.model.trim();
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB of memory`;
  const compose = docker?.composeVersion === undefined ? '' : `, compose ${docker.composeVersion}`;
  return [
    `${cpus().length} cores${model === undefined || model === 'unknown' ? '' : ` (${model})`}, ${memory}, ${arch()}`,
    `${osName()}, Linux ${readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()}`,
    `Node ${process.versions.node}, QEMU ${await qemuVersion()}, docker ${docker?.version ?? 'not used'}${compose}`,
    `as ${process.getuid() === 0 ? 'root' : 'an ordinary user'}; load average ${loadBefore.toFixed(1)} before, ${loadavg()[0].toFixed(1)} after`,
  ];
}

function osName() {
  return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux';
}

async function qemuVersion() {
  const qemu = programPath('qemu-system-x86_64');
  if (qemu === undefined) return 'none';
  return /version (\S+)/.exec((await run([qemu, '--version'])).stdout)?.[1] ?? 'unknown';
}
