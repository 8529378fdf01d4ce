import type { Socket } from 'node:net';
import { AgentLeaving, openStream } from '../agent/client.ts';
import { containerProcess } from '../model/container-process.ts';
import { TsvError } from '../model/errors.ts';
import type { Emit, TsvEvent } from '../model/events.ts';
import type { Machine, Project } from '../model/project.ts';
import type { ExecRequest } from '../model/provider.ts';
import { nameLabel } from '../state/paths.ts';
import { projectAgent } from './agent.ts';
import { requireHost } from './host.ts';
import { loadBeside, type Place } from './place.ts';
import { takeSources, withAgent } from './run.ts';

export interface OneOffRequest {
  readonly place: Place;
  /** As in a Tsfile: a box, or an image of a registry. */
  readonly image: string;
  /** Empty: the image's own. */
  readonly command: readonly string[];
  readonly name?: string;
  /** Absent: those that a machine of the Tsfile has that says nothing of networks. */
  readonly network?: string;
  readonly entrypoint?: string;
  readonly workdir?: string;
  readonly user?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly pty?: NonNullable<ExecRequest['pty']>;
  /** As typed, for others who have to wait. */
  readonly commandLine: string;
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/** A command that runs in a container of its own: frames to and from it; see agent/protocol.ts. */
export interface OneOff {
  readonly socket: Socket;
  /** What has come already. */
  readonly rest: Buffer;
  /** Where its agent was killed: has the next one remove the container. */
  clearUp(): Promise<void>;
}

/**
 * `tsv run`: a container of an image among the project's machines, for one command.
 * @throws TSV_USAGE, TSV_COMMAND_NOT_FOUND (exit code 127 or 126), and what `up` throws of images and networks
 */
export async function startOneOff(request: OneOffRequest): Promise<OneOff> {
  const { place, image, commandLine, emit, signal } = request;
  if (request.name !== undefined && !nameLabel.test(request.name))
    throw new TsvError('TSV_USAGE', `--name ${request.name}: letters a-z, digits and - only, as for machines`);
  if (request.workdir?.startsWith('/') === false)
    throw new TsvError('TSV_USAGE', `--workdir ${request.workdir}: a path in the container, which begins with /`);
  const loaded = await loadBeside(place, image);
  const { project, machine } = await onNetwork(loaded.project, loaded.machine, request.network);
  requireHost(['container']);
  const digest = project.machines.find(({ box, kind }) => box === machine.box && kind === 'container')?.image?.digest;
  const source =
    machine.image === undefined
      ? { box: machine.box, kind: machine.kind }
      : { image: machine.box, ...(digest === undefined ? {} : { digest }) };
  const { digests: boxes, images } = await takeSources(project, [source], { place, emit, signal });
  signal.throwIfAborted();
  const wanted = asAsked(machine, request);
  const { args, env, user, workdir } = containerProcess(wanted, images.get(machine.box)?.config.defaults);
  if (args.length === 0)
    throw new TsvError('TSV_USAGE', `${image} does not say what to run`, { hint: `tsv run ${image} bash` });
  const call = {
    do: 'one-off',
    project,
    // Its own process is the small init alone.
    machine: { ...wanted, entrypoint: [], command: [] },
    ...(request.name === undefined ? {} : { name: request.name }),
    boxes,
    request: {
      argv: args,
      env,
      user: request.user ?? user,
      cwd: workdir,
      ...(request.pty === undefined ? {} : { pty: request.pty }),
    },
  } as const;
  const options = {
    emit: (event: TsvEvent) => event.type !== 'plan' && emit(event),
    signal,
    gone: () => new AgentLeaving(),
  };
  const { socket, rest } = await withAgent(place, project.dir, project.name, (agent) =>
    openStream(agent, call, commandLine, options),
  );
  return {
    socket,
    rest,
    clearUp: async () => void (await projectAgent(place, project.dir, project.name)).destroy(),
  };
}

/** The project with the network that is meant; `default` need not be in the Tsfile. @throws TSV_USAGE with the nearest name */
async function onNetwork(
  project: Project,
  machine: Machine,
  network: string | undefined,
): Promise<{ readonly project: Project; readonly machine: Machine }> {
  const wanted = network === undefined ? machine : { ...machine, networks: [{ network }] };
  const known = project.networks.map(({ name }) => name);
  const missing = wanted.networks.find((attachment) => !known.includes(attachment.network))?.network;
  if (missing === undefined) return { project, machine: wanted };
  const { defaultNetwork, didYouMean } = await import('../config/index.ts');
  if (missing === defaultNetwork) {
    const networks = [...project.networks, { name: defaultNetwork, mode: 'nat' } as const];
    return { project: { ...project, networks }, machine: wanted };
  }
  const hint = didYouMean(missing, known);
  throw new TsvError('TSV_USAGE', `this project has no network ${missing}`, {
    details: [`its networks: ${[...new Set([...known, defaultNetwork])].join(', ')}`],
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The machine with what the command line says of it. */
function asAsked(machine: Machine, { entrypoint, command, workdir, env }: OneOffRequest): Machine {
  const { isolation } = machine;
  return {
    ...machine,
    env: { ...machine.env, ...env },
    ...(entrypoint === undefined ? {} : { entrypoint: [entrypoint] }),
    ...(command.length === 0 ? {} : { command }),
    ...(isolation === undefined || workdir === undefined ? {} : { isolation: { ...isolation, workdir } }),
  };
}
