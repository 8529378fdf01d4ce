import type { Flags, FlagValues } from './flags.ts';

/** One command of `tsv oci`: what it takes, and what its help says. */
export interface CommandSpec {
  readonly summary: string;
  /** Behind the name and the options. */
  readonly usage: string;
  readonly flags: Flags;
  /** How many arguments. */
  readonly least: number;
  readonly most: number;
  /** What follows the first argument belongs to somebody else: no options of ours are looked for in it. */
  readonly passesOn?: true;
  readonly notes?: readonly string[];
}

export const globalFlags = {
  debug: { kind: 'switch', help: 'accepted and ignored' },
  log: { kind: 'text', help: 'write errors and warnings to this file too; else they go to stderr' },
  'log-format': { kind: 'text', help: 'text (default) or json: one object per line' },
  root: {
    kind: 'text',
    help: 'folder for the state of containers (default: /run/tsv-oci, or $XDG_RUNTIME_DIR/tsv-oci)',
  },
  criu: { kind: 'text', help: 'accepted and ignored' },
  'systemd-cgroup': { kind: 'switch', help: 'refused where a cgroup is made: tsv makes cgroups itself' },
  rootless: { kind: 'text', help: 'accepted and ignored: tsv sees for itself' },
  version: { kind: 'switch', short: 'v', help: 'print the versions of tsv and of the specification' },
} as const satisfies Flags;

const startFlags = {
  bundle: { kind: 'text', short: 'b', help: 'folder of the bundle (default: the current folder)' },
  'console-socket': { kind: 'text', help: 'Unix socket that is sent the terminal (its master)' },
  'pid-file': { kind: 'text', help: 'write the pid of the container’s process to this file' },
  'no-pivot': { kind: 'switch', help: 'no pivot_root(2), for a root file system on a ramdisk' },
  'no-new-keyring': { kind: 'switch', help: 'accepted and ignored: a container always gets a session keyring' },
  'preserve-fds': { kind: 'number', help: 'how many descriptors from 3 on the process keeps (default: 0)' },
} as const satisfies Flags;

const idOnly = { usage: 'ID', least: 1, most: 1 } as const;

const formatFlag = { kind: 'text', short: 'f', help: 'table (default) or json' } as const;

export const commands = {
  create: {
    ...idOnly,
    summary: 'make a container; its process waits for start',
    flags: startFlags,
  },
  start: { ...idOnly, summary: 'execute the process of a created container', flags: {} },
  run: {
    ...idOnly,
    summary: 'make and start a container, wait for its end and delete it',
    flags: {
      ...startFlags,
      detach: { kind: 'switch', short: 'd', help: 'do not wait' },
      keep: { kind: 'switch', help: 'do not delete it when it has ended' },
      'no-subreaper': { kind: 'switch', help: 'accepted and ignored' },
    },
    notes: ['The exit code is that of the process, or 128 and the number of the signal that ended it.'],
  },
  state: { ...idOnly, summary: 'print the state of a container as JSON', flags: {} },
  kill: {
    summary: 'send a signal to the process of a container',
    usage: 'ID [SIGNAL]',
    least: 1,
    most: 2,
    flags: { all: { kind: 'switch', short: 'a', help: 'to all processes in the container' } },
    notes: ['SIGNAL is a name with or without SIG, or a number (default: SIGTERM).'],
  },
  delete: {
    ...idOnly,
    summary: 'remove what a stopped container has left',
    flags: { force: { kind: 'switch', short: 'f', help: 'end it first (SIGKILL); no error when there is none' } },
  },
  exec: {
    summary: 'run another process in a running container',
    usage: 'ID COMMAND [ARGUMENT...]  |  --process FILE ID',
    least: 1,
    most: Number.POSITIVE_INFINITY,
    passesOn: true,
    flags: {
      process: { kind: 'text', short: 'p', help: 'all of it from this file: `process` of config.json' },
      cwd: { kind: 'text', help: 'working folder in the container' },
      env: { kind: 'texts', short: 'e', help: 'NAME=value, beside those of config.json; may be repeated' },
      tty: { kind: 'switch', short: 't', help: 'give it a terminal' },
      user: { kind: 'text', short: 'u', help: 'UID[:GID], as numbers' },
      'additional-gids': { kind: 'numbers', short: 'g', help: 'one more group; may be repeated' },
      cap: { kind: 'texts', short: 'c', help: 'one more capability, such as CAP_NET_RAW; may be repeated' },
      'no-new-privs': { kind: 'switch', help: 'no new privileges for it' },
      'pid-file': { kind: 'text', help: 'write its pid to this file' },
      detach: { kind: 'switch', short: 'd', help: 'do not wait' },
      'console-socket': startFlags['console-socket'],
      'preserve-fds': startFlags['preserve-fds'],
      apparmor: { kind: 'text', help: 'AppArmor profile' },
      'process-label': { kind: 'text', help: 'SELinux label' },
      cgroup: {
        kind: 'texts',
        help: '[CONTROLLER[,CONTROLLER...]:]PATH of a cgroup below the container’s own; with controllers (v1) may be repeated',
      },
      'ignore-paused': { kind: 'switch', help: 'also in a paused container: it waits there' },
    },
    notes: ['What is not said comes from `process` of the container’s config.json.'],
  },
  list: {
    summary: 'list the containers',
    usage: '',
    least: 0,
    most: 0,
    flags: { format: formatFlag, quiet: { kind: 'switch', short: 'q', help: 'ids only' } },
  },
  ps: {
    summary: 'list the processes of a container',
    usage: 'ID [OPTIONS OF ps(1)]',
    least: 1,
    most: Number.POSITIVE_INFINITY,
    passesOn: true,
    flags: { format: { ...formatFlag, help: 'table (default), or json: pids only' } },
    notes: ['The options for ps have to leave its column PID in place (default: -ef).'],
  },
  pause: { ...idOnly, summary: 'stop all processes of a container where they are', flags: {} },
  resume: { ...idOnly, summary: 'let a paused container go on', flags: {} },
  update: {
    ...idOnly,
    summary: 'change the limits of a container',
    flags: {
      resources: {
        kind: 'text',
        short: 'r',
        help: '`linux.resources` as JSON from this file, or - for stdin; no other option counts then',
      },
      'blkio-weight': { kind: 'number', help: 'weight of its disk access, 10 to 1000' },
      'cpu-period': { kind: 'text', help: 'microseconds' },
      'cpu-quota': { kind: 'text', help: 'microseconds of CPU time in each period; -1: no limit' },
      'cpu-share': { kind: 'text', help: 'weight among containers; 1024 is usual' },
      'cpu-rt-period': { kind: 'text', help: 'microseconds, for real-time processes' },
      'cpu-rt-runtime': { kind: 'text', help: 'microseconds in each such period' },
      'cpuset-cpus': { kind: 'text', help: 'CPUs it may use: 0-2,7' },
      'cpuset-mems': { kind: 'text', help: 'memory nodes it may use' },
      memory: { kind: 'text', help: 'bytes, or with a unit: 512M; -1: no limit' },
      'memory-reservation': { kind: 'text', help: 'what it gets back to when memory is short' },
      'memory-swap': { kind: 'text', help: 'memory and swap together; -1: no limit' },
      'pids-limit': { kind: 'number', help: 'most processes and threads; -1: no limit' },
      'l3-cache-schema': { kind: 'text', help: 'refused: there is no resctrl support' },
      'mem-bw-schema': { kind: 'text', help: 'refused: there is no resctrl support' },
    },
    notes: ['What is not named stays as it is.'],
  },
  events: {
    ...idOnly,
    summary: 'print what a container uses, again and again, and when it lacks memory: one JSON object per line',
    flags: {
      interval: { kind: 'duration', help: 'time between two lines, such as 500ms (default: 5s)' },
      stats: { kind: 'switch', help: 'print one line at once, and end' },
    },
    notes: ['It ends with the container.'],
  },
  spec: {
    summary: 'write a config.json to start from',
    usage: '',
    least: 0,
    most: 0,
    flags: {
      bundle: { kind: 'text', short: 'b', help: 'folder to write it into (default: the current folder)' },
      rootless: { kind: 'switch', help: 'for a runtime without root' },
    },
    notes: ['A config.json that is there already stays as it is.'],
  },
  features: { summary: 'print as JSON what this runtime knows', usage: '', least: 0, most: 0, flags: {} },
} as const satisfies Readonly<Record<string, CommandSpec>>;

export type CommandName = keyof typeof commands;
export type GlobalOptions = FlagValues<typeof globalFlags>;
export type OptionsOf<C extends CommandName> = FlagValues<(typeof commands)[C]['flags']>;

export const isCommand = (name: string): name is CommandName => Object.hasOwn(commands, name);
