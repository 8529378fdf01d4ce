import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, readSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { detectCgroups } from '../cgroup/index.ts';
import { TsvError } from '../model/errors.ts';
import { defaultSpec } from '../oci/default-spec.ts';
import { inUserNamespace } from '../oci/namespaces.ts';
import { readProcess } from '../oci/parse.ts';
import { configOf, list, type Runtime } from '../oci/runtime/index.ts';
import type { OciProcess, OciResources } from '../oci/spec.ts';
import { validateConfig, validateProcess } from '../oci/validate.ts';

/* What `tsv oci` does around the operations of src/oci/runtime/index.ts. */

export interface RootPlace {
  readonly euid: number;
  /** Not the host's: there, uid 0 may be anybody. */
  readonly inUserNamespace: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly exists: (path: string) => boolean;
}

const here = (): RootPlace => ({
  euid: process.geteuid?.() ?? 0,
  inUserNamespace: inUserNamespace(),
  env: process.env,
  exists: existsSync,
});

/**
 * Folder of the containers' state when --root does not say: the host's root has `/run/tsv-oci`, everybody else a folder
 * of their own. Podman starts a runtime without root as root of a user namespace, and names the folder by
 * XDG_RUNTIME_DIR alone; with USER=root such a root counts as one (a container in which containers are started).
 * @throws TSV_USAGE
 */
export function defaultRoot(place: RootPlace = here()): string {
  const { euid, env } = place;
  const isRoot = euid === 0 && (!place.inUserNamespace || env.USER === 'root');
  if (!isRoot) {
    const own = env.XDG_RUNTIME_DIR || `/run/user/${euid}`;
    if (env.XDG_RUNTIME_DIR || (euid !== 0 && place.exists(own))) return resolve(own, 'tsv-oci');
    if (euid !== 0) {
      throw new TsvError('TSV_USAGE', 'there is no folder for the state of containers: XDG_RUNTIME_DIR is not set', {
        hint: 'tsv oci --root FOLDER',
      });
    }
  }
  return '/run/tsv-oci';
}

/**
 * How many descriptors from 3 on are sockets that somebody listens on for this very process: sd_listen_fds(3). A variable
 * that was meant for another process, or is no number, says nothing.
 */
export function listeningDescriptors(
  env: Readonly<Record<string, string | undefined>> = process.env,
  pid: number = process.pid,
): number {
  const { LISTEN_PID = '', LISTEN_FDS = '' } = env;
  return LISTEN_PID === String(pid) && /^\d{1,9}$/.test(LISTEN_FDS) ? Number(LISTEN_FDS) : 0;
}

/**
 * Whether descriptors 3, 4, … up to `count` of them came from whoever called. The lowest that did not is in use all the
 * same: Node's own first one, an epoll(7), has taken its number, and must not get into a container.
 * @param linkOf where `/proc/self/fd/N` leads, undefined for what is not open
 * @throws TSV_USAGE
 */
export function requirePreserved(
  count: number,
  listening = 0,
  linkOf: (fd: number) => string | undefined = ownDescriptor,
): void {
  for (let fd = 3; fd < 3 + listening + count; fd++) {
    const link = linkOf(fd);
    if (link === undefined || link.startsWith('anon_inode:[eventpoll]'))
      throw new TsvError(
        'TSV_USAGE',
        `${fd < 3 + listening ? `LISTEN_FDS=${listening}` : `--preserve-fds ${count}`}: descriptor ${fd} is not open`,
      );
  }
}

function ownDescriptor(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

/**
 * The process for `exec`, checked.
 * @param process a file, or what makes it of the container's own
 * @throws TSV_BUNDLE, TSV_CONTAINER_UNKNOWN
 */
export function processFor(
  runtime: Runtime,
  id: string,
  process: string | ((own: OciProcess | undefined) => OciProcess),
): OciProcess {
  const own = configOf(runtime, id).process;
  const { value, warnings } =
    typeof process === 'string' ? fromFile(process) : validateProcess(structuredClone(process(own)), 'the process');
  for (const warning of warnings) runtime.warn(warning);
  return value;
}

function fromFile(file: string): { value: OciProcess; warnings: readonly string[] } {
  const { process: value, warnings } = readProcess(file);
  return { value, warnings };
}

/** `linux.resources` as JSON from a file, or from stdin for `-`. @throws TSV_BUNDLE */
export function resourcesFrom(file: string, cwd: string): OciResources {
  const where = file === '-' ? 'stdin' : resolve(cwd, file);
  let resources: unknown;
  try {
    resources = JSON.parse(file === '-' ? readStdin() : readFileSync(where, 'utf8'));
  } catch (cause) {
    throw new TsvError('TSV_BUNDLE', `the resources in ${where} cannot be read`, {
      details: [cause instanceof Error ? cause.message : String(cause)],
      cause,
    });
  }
  return checkResources(resources, where);
}

/** @throws TSV_BUNDLE with every mistake */
export function checkResources(resources: unknown, where: string): OciResources {
  const config = { ociVersion: '1.2.0', root: { path: '/' }, linux: { resources: resources ?? 'null' } };
  return validateConfig(config, `the resources in ${where}`).value.linux?.resources ?? {};
}

/** All of stdin. It may have been made non-blocking by whoever has it too. */
function readStdin(): string {
  const chunks: Buffer[] = [];
  const buffer = Buffer.alloc(65536);
  for (;;) {
    try {
      const length = readSync(0, buffer, 0, buffer.length, null);
      if (length === 0) return Buffer.concat(chunks).toString('utf8');
      chunks.push(Buffer.from(buffer.subarray(0, length)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EOF') return Buffer.concat(chunks).toString('utf8');
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

/** Writes a config.json to start from. @throws TSV_EXISTS */
export function writeSpec(folder: string, options: { readonly rootless: boolean }): void {
  const file = join(folder, 'config.json');
  const cgroup2 = detectCgroups().hierarchies.every(({ version }) => version === 2);
  const text = `${JSON.stringify(defaultSpec({ ...options, cgroup2 }), undefined, '\t')}\n`;
  try {
    writeFileSync(file, text, { flag: 'wx', mode: 0o666 });
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') throw new TsvError('TSV_EXISTS', `File ${file} exists. Remove it first`, { cause });
    throw new TsvError('TSV_USAGE', `${file} cannot be written: ${code}`, { cause });
  }
}

/** The containers, their owners by name. */
export function listContainers(
  runtime: Runtime,
): (Omit<ReturnType<typeof list>[number], 'owner'> & { owner: string })[] {
  const containers = list(runtime);
  if (containers.length === 0) return [];
  const names = userNames();
  return containers.map((container) => ({ ...container, owner: names.get(container.owner) ?? `#${container.owner}` }));
}

/** By uid: passwd(5). */
function userNames(): Map<number, string> {
  const names = new Map<number, string>();
  for (const line of existsSync('/etc/passwd') ? readFileSync('/etc/passwd', 'utf8').split('\n') : []) {
    const [name = '', , uid = ''] = line.split(':');
    if (uid !== '' && !names.has(Number(uid))) names.set(Number(uid), name);
  }
  return names;
}

/** What the host's ps(1) prints. @throws TSV_HOST_MISSING, TSV_USAGE with what it says of its options */
export function hostProcesses(options: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync('ps', options.length === 0 ? ['-ef'] : options, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 * 1024 * 1024,
  });
  if (error !== undefined) {
    throw new TsvError('TSV_HOST_MISSING', `ps cannot be run: ${error.message}`, { hint: 'apt install procps' });
  }
  if (status !== 0) {
    throw new TsvError('TSV_USAGE', `ps ended with exit code ${status}`, { details: stderr.trim().split('\n', 1) });
  }
  return stdout;
}
