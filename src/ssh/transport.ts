import { randomBytes } from 'node:crypto';
import type { Duplex, Readable } from 'node:stream';
import type { Client, ClientChannel, SFTPWrapper } from 'ssh2';
import { TsvError } from '../model/errors.ts';
import type { ExecRequest, ExecSession, PackRequest, Transport, UnpackRequest } from '../model/provider.ts';
import { packCommand, unpackCommand } from './archive.ts';
import { head, type Login, onPipe, onTerminal, program } from './command.ts';
import { getFile, putFile } from './files.ts';
import { remoteSession } from './session.ts';
import { ShellAhead } from './shell-ahead.ts';
import { Slots } from './slots.ts';

/** sshd's MaxSessions is 10 unless set otherwise: one is kept for SFTP, one for signals, one for the shell that waits. */
const sessionLimit = 7;

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The Transport over an SSH connection that has logged in. `exec` rejects and `closed` resolves when it is lost. */
export class SshTransport implements Transport {
  readonly closed: Promise<void>;
  readonly #client: Client;
  readonly #stream: Duplex;
  readonly #username: string;
  readonly #slots = new Slots(sessionLimit);
  readonly #signalSlot = new Slots(1);
  /** Begins the line in which a loader says its process group. */
  readonly #token = `tsv-${randomBytes(14).toString('hex')}`;
  readonly #ahead: ShellAhead;
  #sftp: Promise<SFTPWrapper> | undefined;
  #lost: TsvError | undefined;
  #lastError: unknown;
  /** What waits for an answer of the server: ssh2 never answers what it could not send. */
  readonly #unanswered = new Set<() => void>();

  constructor(client: Client, stream: Duplex, username: string) {
    this.#client = client;
    this.#stream = stream;
    this.#username = username;
    this.#ahead = new ShellAhead(() => this.#answer((reply) => this.#load({ username, user: username }, reply)));
    client.on('error', (error) => {
      this.#lastError = error;
    });
    this.closed = new Promise((resolve) => {
      client.once('close', () => {
        this.#lost = this.#lostError();
        for (const fail of this.#unanswered) fail();
        resolve();
      });
    });
    this.#prepare();
  }

  exec(request: ExecRequest): Promise<ExecSession> {
    return this.#exec(request, this.#slots);
  }

  async #exec(request: ExecRequest, slots: Slots): Promise<ExecSession> {
    const login: Login = { username: this.#username, user: request.user ?? 'root' };
    const text = program(request, login);
    const options = {
      token: this.#token,
      lost: () => this.#lostError(),
      kill: (group: number, name: string) => this.#kill(group, name, login),
    };
    if (request.pty === undefined) {
      const channel = await this.#open<ClientChannel>(
        slots,
        (reply) => this.#load(login, reply),
        () => (login.user === this.#username ? this.#ahead.take() : undefined),
      );
      channel.once('close', () => this.#prepare());
      return remoteSession(channel, { ...options, head: head(text), pty: false });
    }
    const file = await this.#programFile(text, login);
    const pty = { ...request.pty, width: 0, height: 0 };
    const channel = await this.#open<ClientChannel>(slots, (reply) => {
      this.#client.exec(onTerminal(file, login, this.#token), { pty }, reply);
    });
    return remoteSession(channel, { ...options, head: '', pty: true });
  }

  async put(content: Readable | Buffer, path: string, options: { mode?: number; owner?: string } = {}): Promise<void> {
    const mode = options.mode ?? 0o644;
    const { owner } = options;
    const sftp = await this.#files();
    if (this.#username === 'root') {
      return putFile(sftp, content, path, {
        mode,
        ...(owner === undefined ? {} : { chown: (name: string) => this.#must(['chown', owner, name], path) }),
      });
    }
    // An ordinary login: its own file first, then root moves it into place.
    const staged = `/tmp/.tsv-${randomBytes(16).toString('hex')}`;
    await putFile(sftp, content, staged, { mode: 0o600 });
    const script = `set -e
[ -d "\${2%/*}/" ] || { echo "the folder \${2%/*} does not exist in the machine" >&2; exit 1; }
[ ! -d "$2" ] || { echo 'it is a folder' >&2; exit 1; }
t=\${2%/*}/.tsv-$5; trap 'rm -f "$t" "$1"' EXIT; umask 077
cat "$1" >"$t"; chown "$4" "$t"; chmod "$3" "$t"; sync "$t" 2>/dev/null || :; mv -f "$t" "$2"`;
    const nonce = randomBytes(8).toString('hex');
    await this.#must(['sh', '-c', script, 'sh', staged, path, mode.toString(8), owner ?? 'root', nonce], path);
  }

  async get(path: string): Promise<Readable> {
    if (this.#username === 'root') return getFile(await this.#files(), path);
    await this.#must(['sh', '-c', ': <"$1"', 'sh', path], path, 'read');
    const session = await this.exec({ argv: ['cat', path] });
    session.stdin.end();
    session.stderr.resume();
    session.exited.then(
      ({ code }) => {
        if (code !== 0) session.stdout.destroy(new TsvError('TSV_SSH', `cannot read ${path} in the machine`));
      },
      (error: Error) => session.stdout.destroy(error),
    );
    return session.stdout;
  }

  pack(request: PackRequest): Promise<ExecSession> {
    return this.exec({ argv: packCommand(request), cwd: '/' });
  }

  unpack(request: UnpackRequest): Promise<ExecSession> {
    return this.exec({ argv: unpackCommand(request), cwd: '/' });
  }

  async dial(port: number): Promise<Duplex> {
    this.#throwIfLost();
    const answer = this.#answer<ClientChannel>((reply) => {
      this.#client.forwardOut('127.0.0.1', 0, '127.0.0.1', port, reply);
    });
    return answer.catch((error: unknown) => {
      if (error instanceof TsvError) throw error;
      throw new TsvError('TSV_SSH', `no connection to port ${port} of the machine`, { details: [messageOf(error)] });
    });
  }

  close(): void {
    this.#client.end();
    // A machine that is dead never closes its side.
    const timer = setTimeout(() => this.#stream.destroy(), 1000);
    void this.closed.then(() => clearTimeout(timer));
  }

  /** The shell that waits ends first: it would find nobody to tell when sshd has gone before it. */
  async leave(): Promise<void> {
    await Promise.race([this.#ahead.giveUp(), this.closed]);
    this.close();
    await this.closed;
  }

  #lostError(): TsvError {
    const details = this.#lastError === undefined ? [] : [messageOf(this.#lastError)];
    return (
      this.#lost ??
      new TsvError('TSV_SSH', 'the SSH connection to the machine was lost', { details, cause: this.#lastError })
    );
  }

  #throwIfLost(): void {
    if (this.#lost !== undefined) throw this.#lost;
  }

  /** Only for logins of root: of others nearly everything runs as root, which sudo would have to start. */
  #prepare(): void {
    if (this.#lost === undefined && this.#username === 'root') this.#ahead.prepare();
  }

  #load(login: Login, reply: (error: Error | undefined, channel: ClientChannel) => void): void {
    this.#client.exec(onPipe(login, this.#token), reply);
  }

  /** Opens a session when there is room for one, or takes one that is `ready`; sshd may be set to fewer than we think. */
  async #open<T extends { once(event: 'close', listener: () => void): unknown }>(
    slots: Slots,
    start: (reply: (error: Error | undefined, channel: T) => void) => void,
    ready: () => Promise<T | undefined> | undefined = () => undefined,
  ): Promise<T> {
    for (;;) {
      const release = await slots.take();
      const nth = slots.taken;
      try {
        this.#throwIfLost();
        const channel = (await ready()) ?? (await this.#answer<T>(start));
        channel.once('close', release);
        return channel;
      } catch (error) {
        const refused = (error as { reason?: unknown }).reason !== undefined;
        const again = refused && ((await this.#makeRoom()) || slots.shrink(nth));
        release();
        if (again) continue;
        if (error instanceof TsvError) throw error;
        throw new TsvError('TSV_SSH', 'the machine refused a session', { details: [messageOf(error)], cause: error });
      }
    }
  }

  /** Gives the place of the shell that waits to another session. false: none waits. */
  async #makeRoom(): Promise<boolean> {
    if (!(await this.#ahead.giveUp())) return false;
    // sshd still counts a session when it reads the next request together with our end of it. It has not read this one so.
    await this.#answer<void>((reply) => {
      this.#client.unforwardIn('127.0.0.1', 1, () => reply(undefined));
    });
    return true;
  }

  async #answer<T>(start: (reply: (error: Error | undefined, value: T) => void) => void): Promise<T> {
    let fail = () => {};
    try {
      return await new Promise<T>((resolve, reject) => {
        fail = () => reject(this.#lostError());
        this.#unanswered.add(fail);
        start((error, value) => (error ? reject(error) : resolve(value)));
      });
    } finally {
      this.#unanswered.delete(fail);
    }
  }

  #files(): Promise<SFTPWrapper> {
    this.#sftp ??= this.#open<SFTPWrapper>(new Slots(1), (reply) => {
      this.#client.sftp(reply);
    }).then(
      (sftp) => {
        sftp.once('close', () => {
          this.#sftp = undefined;
        });
        return sftp;
      },
      (error) => {
        this.#sftp = undefined;
        throw error;
      },
    );
    return this.#sftp;
  }

  /** Writes the program's lines to a private file that its user can read; it removes itself when it runs. */
  async #programFile(text: string, login: Login): Promise<string> {
    const script = 'umask 077; f=$(mktemp) && { echo "rm -f $f"; cat; } >"$f" && echo "$f"';
    const output = await this.#output({ argv: ['sh', '-c', script], user: login.user, cwd: '/' }, text);
    return output.trim();
  }

  #kill(group: number, name: string, login: Login): void {
    if (!/^[A-Z0-9]+$/.test(name)) return;
    const request = { argv: ['sh', '-c', `kill -s ${name} -- -${group}`], user: login.user, cwd: '/' };
    // Already gone is as good; `exited` tells when the connection is.
    this.#output(request, '', this.#signalSlot).catch(() => {});
  }

  async #must(argv: readonly string[], path: string, verb = 'write'): Promise<void> {
    try {
      await this.#output({ argv, cwd: '/' }, '');
    } catch (error) {
      if (!(error instanceof TsvError) || error === this.#lost) throw error;
      throw new TsvError('TSV_SSH', `cannot ${verb} ${path} in the machine: ${error.details[0] ?? error.message}`);
    }
  }

  /** stdout of a small command; TSV_SSH with its stderr in `details` when it fails. */
  async #output(request: ExecRequest, input: string, slots = this.#slots): Promise<string> {
    const session = await this.#exec(request, slots);
    const collect = async (stream: Readable): Promise<string> => {
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks).toString();
    };
    session.stdin.end(input);
    const [{ code }, stdout, stderr] = await Promise.all([
      session.exited,
      collect(session.stdout),
      collect(session.stderr),
    ]);
    if (code === 0) return stdout;
    throw new TsvError('TSV_SSH', `${request.argv[0]} in the machine failed with exit code ${code}`, {
      details: stderr.trim() === '' ? [] : [stderr.trim()],
    });
  }
}
