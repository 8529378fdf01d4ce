import { closeSync, constants, openSync } from 'node:fs';
import { createCgroup, detectCgroups, placeCgroup, removeCgroup, withInherited } from '../../cgroup/index.ts';
import { signalProcess } from '../../sys/children.ts';
import { connectConsole } from '../console.ts';
import { copyUp } from '../copy-up.ts';
import { type CreatedContainer, createContainer, passableCapabilities } from '../create.ts';
import { runHooks } from '../hooks.ts';
import { checkHost } from '../host.ts';
import { planNamespaces } from '../namespaces.ts';
import { readBundle } from '../parse.ts';
import { rootfsFolder } from '../plan-mounts.ts';
import { withheldCapabilities } from '../privileges.ts';
import { compileSeccomp } from '../seccomp.ts';
import type { OciConfig, OciProcess, OciState } from '../spec.ts';
import { ContainerFolder, type ContainerRecord, replaceFile, stateOf } from '../store.ts';
import { requireConsole } from './foreground.ts';
import { withHome } from './home.ts';
import { hooksAfter, ownStdio, preserved, type Runtime } from './runtime.ts';

export interface StartRequest {
  readonly id: string;
  readonly bundle: string;
  readonly pidFile?: string;
  /** Path of a Unix socket that takes the terminal. */
  readonly consoleSocket?: string;
  /** How many descriptors from 3 on the process keeps. */
  readonly preserveFds: number;
  /** How many descriptors from 3 on, before those, are sockets that it listens on: sd_listen_fds(3). */
  readonly listenFds: number;
  readonly noPivot: boolean;
}

const SIGKILL = 9;

/** Makes a container whose process waits for `start`. @throws TSV_CONTAINER_EXISTS, TSV_BUNDLE, TSV_CONTAINER_START, TSV_CGROUP, TSV_HOOK, … */
export async function create(runtime: Runtime, request: StartRequest): Promise<void> {
  const folder = ContainerFolder.create(runtime.root, request.id);
  try {
    folder.makeGate();
    const gate = {
      start: openSync(folder.gate.start, constants.O_RDWR),
      result: openSync(folder.gate.result, constants.O_RDWR),
    };
    try {
      await make(runtime, folder, request, { gate });
    } finally {
      closeSync(gate.start);
      closeSync(gate.result);
    }
  } catch (error) {
    folder.remove();
    throw error;
  }
}

export interface Made {
  readonly container: CreatedContainer;
  readonly record: ContainerRecord;
}

/** Everything of `create` but the state folder, which is there already. On an error, nothing else is left. */
export async function make(
  runtime: Runtime,
  folder: ContainerFolder,
  request: StartRequest,
  options: { gate?: { start: number; result: number }; console?: number },
): Promise<Made> {
  const { config: read, folder: bundle, warnings } = readBundle(request.bundle);
  const config = withHome(read, rootfsFolder(read, bundle));
  const { seccomp } = config.linux ?? {};
  const notices = [
    ...warnings,
    ...checkHost(config),
    ...withheld(config, config.process),
    ...(seccomp === undefined ? [] : compileSeccomp(seccomp).warnings),
  ];
  for (const notice of notices) runtime.warn(notice);
  const terminal = config.process?.terminal === true;
  requireConsole(terminal, request.consoleSocket, options);
  const layout = detectCgroups();
  const place = placeCgroup(layout, {
    ...(config.linux?.cgroupsPath === undefined ? {} : { cgroupsPath: config.linux.cgroupsPath }),
    id: request.id,
    systemd: runtime.systemdCgroup,
  });
  const ownerUid = cgroupOwner(config);
  const cgroup = createCgroup(place, config.linux?.resources ?? {}, {
    strict: true,
    ...(ownerUid === undefined ? {} : { ownerUid }),
  });
  for (const warning of cgroup.warnings) runtime.warn(warning);
  const draft = (process?: ContainerRecord['process']): ContainerRecord => ({
    version: 1,
    id: request.id,
    bundle,
    // Without what is this process's alone: HOME of its user, sockets to listen on.
    config: read,
    cgroup: cgroup.cgroup,
    ...(process === undefined ? {} : { process }),
    started: false,
    created: new Date().toISOString(),
    owner: global.process.geteuid?.() ?? 0,
  });
  const console = request.consoleSocket === undefined ? options.console : connectConsole(request.consoleSocket);
  try {
    // Were this runtime killed now, `delete` would know what it has made.
    folder.write(draft());
    const container = await createContainer({
      name: request.id,
      config: withListening(config, request.listenFds),
      bundle,
      cgroup,
      shownCgroup: withInherited(cgroup.cgroup, layout),
      stdio: ownStdio,
      ...(console === undefined ? {} : { console }),
      ...(options.gate === undefined ? {} : { gate: options.gate }),
      preserved: preserved(request.listenFds + request.preserveFds),
      noPivot: request.noPivot,
      mounted: async (pid, mounts) => {
        await copyUp(mounts, rootfsFolder(config, bundle));
        const state: OciState = { ...stateOf(draft(), 'creating'), pid };
        for (const kind of ['prestart', 'createRuntime', 'createContainer'] as const)
          await runHooks(kind, config, state, { inside: { pid, rootfs: rootfsFolder(config, bundle), cgroups: [] } });
      },
    });
    try {
      const record = draft(container.process);
      folder.write(record);
      if (request.pidFile !== undefined) replaceFile(request.pidFile, String(container.process.pid));
      return { container, record };
    } catch (error) {
      await container.abandon();
      signalProcess(container.process, SIGKILL);
      await container.exited;
      throw error;
    }
  } catch (error) {
    await removeCgroup(cgroup.cgroup);
    await hooksAfter(runtime, 'poststop', draft());
    throw error;
  } finally {
    if (request.consoleSocket !== undefined && console !== undefined) closeSync(console);
  }
}

/** Its process is told of the sockets as systemd tells a service of them; no other of the container is. */
function withListening(config: OciConfig, count: number): OciConfig {
  const { process } = config;
  if (count === 0 || process === undefined) return config;
  const others = (process.env ?? []).filter((entry) => !/^LISTEN_(FDS|PID)=/.test(entry));
  return { ...config, process: { ...process, env: [...others, `LISTEN_FDS=${count}`, 'LISTEN_PID=1'] } };
}

/** Of the capabilities of a process in such a container, those that this caller cannot give it. */
export const withheld = (config: OciConfig, process: OciProcess | undefined): string[] =>
  process === undefined ? [] : withheldCapabilities(process, passableCapabilities(planNamespaces(config).user));

/**
 * The host's uid that may divide the container's cgroup further: of its process, where the cgroup can be reached from
 * inside for writing and is all that can be seen there (config-linux.md, "Cgroup ownership").
 */
export function cgroupOwner({ linux, process, mounts = [] }: OciConfig): number | undefined {
  const isNew = (wanted: string) =>
    linux?.namespaces?.some(({ type, path }) => type === wanted && path === undefined) === true;
  const isWritable = mounts.some(
    ({ type, destination, options = [] }) =>
      type === 'cgroup' && /^\/sys\/fs\/cgroup\/?$/.test(destination) && !options.includes('ro'),
  );
  if (!isNew('cgroup') || !isWritable) return undefined;
  const uid = process?.user?.uid ?? 0;
  if (!isNew('user')) return uid;
  const range = linux?.uidMappings?.find(({ containerID, size }) => uid >= containerID && uid < containerID + size);
  return range === undefined ? undefined : range.hostID + uid - range.containerID;
}
