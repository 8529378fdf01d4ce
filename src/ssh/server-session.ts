import type { ServerChannel, Session } from 'ssh2';
import { TsvError } from '../model/errors.ts';
import type { ExecRequest, ExecSession, Transport } from '../model/provider.ts';
import { copy } from './pump.ts';

type Pty = NonNullable<ExecRequest['pty']>;

/**
 * Becomes the login shell that /etc/passwd names for `$1`, where there is such a program. dash, bash, zsh, ksh and busybox
 * all know -l.
 */
const loginShell = `s=/bin/sh
while IFS=: read -r n _ _ _ _ _ p; do [ "$n" != "$1" ] || { s=$p; break; }; done 2>/dev/null </etc/passwd
[ -x "$s" ] || s=/bin/sh
export SHELL="$s"
exec "$s" -l`;

/** Where Debian; Fedora; Alpine, Arch and SUSE; others keep the program. */
const sftpServers = [
  '/usr/lib/openssh/sftp-server',
  '/usr/libexec/openssh/sftp-server',
  '/usr/lib/ssh/sftp-server',
  '/usr/libexec/sftp-server',
];
const runSftpServer = `for f; do [ ! -x "$f" ] || exec "$f"; done
echo 'tsv: this machine has no sftp-server: install openssh-sftp-server in it, or use scp -O' >&2
exit 127`;

export interface ServedSession {
  /** The whole connection is gone, which ssh2 does not tell a session. */
  hangUp(): void;
  /** The client takes no more output: the program's next write fails (SIGPIPE). */
  closeOutput(): void;
}

/**
 * Serves one `session` channel (RFC 4254, section 6): one program, started by `exec`, `shell` or `subsystem`, with
 * what `pty-req` and `env` asked for before. A client that leaves hangs the program up (SIGHUP). `over` is called
 * when the channel is closed.
 */
export function serveSession(session: Session, user: string, transport: Transport, over: () => void): ServedSession {
  let pty: Pty | undefined;
  const env: Record<string, string> = { USER: user, LOGNAME: user };
  let running: ExecSession | undefined;
  let left = false;
  /** Signals and sizes that came while the program was being started. */
  const early: ((started: ExecSession) => void)[] = [];
  const tell = (action: (started: ExecSession) => void) => {
    if (running === undefined) early.push(action);
    else action(running);
  };

  const run = async (channel: ServerChannel, argv: readonly string[], options: { pty: boolean }): Promise<void> => {
    let started: ExecSession;
    try {
      started = await transport.exec({ argv, env, user, ...(options.pty && pty !== undefined ? { pty } : {}) });
    } catch (error) {
      return refuse(channel, error);
    }
    running = started;
    for (const action of early) action(started);
    if (left) abandon(started);
    await relay(channel, started);
    running = undefined;
  };
  const leave = () => {
    left = true;
    if (running !== undefined) abandon(running);
    running = undefined;
    over();
  };

  // The replies must come at once: ssh2 drops data that comes before, and opens no channel after the client's EOF.
  session.on('pty', (accept, _reject, info) => {
    pty = { cols: info.cols || 80, rows: info.rows || 24, term: info.term || 'dumb' };
    accept?.();
  });
  session.on('window-change', (accept, _reject, { cols, rows }) => {
    tell((started) => started.resize(cols, rows));
    accept?.();
  });
  session.on('env', (accept, reject, info) => {
    const { key, val } = info;
    if (!/^(LANG|LC_[A-Z]+|TERM|COLORTERM)$/.test(key) || val.includes('\0')) return void reject?.();
    env[key] = val;
    accept?.();
  });
  session.on('signal', (accept, _reject, { name }) => {
    tell((started) => started.signal(name.replace(/^SIG/, '')));
    accept?.();
  });
  session.on('exec', (accept, _reject, { command }) => {
    const channel = accept();
    if (channel !== undefined) void run(channel, ['/bin/sh', '-c', command], { pty: true });
  });
  session.on('shell', (accept) => {
    const channel = accept();
    if (channel !== undefined) void run(channel, ['/bin/sh', '-c', loginShell, 'sh', user], { pty: true });
  });
  session.on('subsystem', (accept, reject, { name }) => {
    if (name !== 'sftp') return reject();
    const channel = accept();
    if (channel !== undefined)
      void run(channel, ['/bin/sh', '-c', runSftpServer, 'sh', ...sftpServers], { pty: false });
  });
  session.on('close', leave);
  return { hangUp: leave, closeOutput: () => tell((started) => started.stdout.destroy()) };
}

/** Connects a channel with a program, until the program has ended and all of its output was taken. */
async function relay(channel: ServerChannel, program: ExecSession): Promise<void> {
  channel.on('error', () => {}); // 'close' follows
  program.stdin.on('error', () => {}); // EPIPE: the program wants no more input
  copy(channel, program.stdin).then(
    () => program.stdin.end(),
    () => program.stdin.destroy(),
  );
  const output = Promise.allSettled([copy(program.stdout, channel), copy(program.stderr, channel.stderr)]);
  try {
    const { code, signal } = await program.exited;
    await output;
    const name = signal?.replace(/^SIG/, '');
    if (name !== undefined && signals.includes(name)) channel.exit(name, false, '');
    else channel.exit(code);
    channel.end();
  } catch (error) {
    refuse(channel, error);
  }
}

/** The names that RFC 4254, section 6.10 knows; others go as a number. */
const signals = ['ABRT', 'ALRM', 'FPE', 'HUP', 'ILL', 'INT', 'KILL', 'PIPE', 'QUIT', 'SEGV', 'TERM', 'USR1', 'USR2'];

/** All that comes in here is run by /bin/sh. */
const whyNoShell = (error: TsvError): string[] =>
  error.code === 'TSV_COMMAND_NOT_FOUND' ? ['it has no shell; tsv exec runs its programs without one'] : [];

function refuse(channel: ServerChannel, error: unknown): void {
  const lines = error instanceof TsvError ? [error.message, ...error.details, ...whyNoShell(error)] : [String(error)];
  channel.on('error', () => {});
  channel.stderr.write(lines.map((line) => `tsv: ${line}\r\n`).join(''), () => {
    channel.exit(error instanceof TsvError && error.code === 'TSV_COMMAND_NOT_FOUND' ? 127 : 255);
    channel.end();
  });
}

/** The client is gone: what sshd does when the terminal closes. */
function abandon(program: ExecSession): void {
  program.signal('HUP');
  program.stdin.destroy();
  program.stdout.destroy();
  program.stderr.destroy();
}
