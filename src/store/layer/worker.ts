import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { TsvError } from '../../model/errors.ts';
import { type Answer, dataMax, type FrameKind, frameHead, type Waiting } from './protocol.ts';

/** How much of its last words is kept. */
const stderrMax = 4096;

/** One process that unpacks, seen from the command: requests go out, and each has one answer. */
export class UnpackWorker {
  /** Settles when the process has ended. */
  readonly ended: Promise<void>;
  private readonly child: ChildProcessWithoutNullStreams;
  private waiting: { resolve: (answer: Answer) => void; reject: (error: TsvError) => void } | undefined;
  /** Of the layer that is being unpacked, when nobody waited for it. */
  private early: TsvError | undefined;
  private failure: TsvError | undefined;
  private waitsForLock = false;
  private stderr = '';

  /** @param argv the program, with what enters the sandbox's ids before it */
  constructor(argv: readonly string[]) {
    const [file = '', ...args] = argv;
    this.child = spawn(file, args, {
      cwd: '/',
      detached: true, // a Ctrl-C of the terminal comes as the command's signal: it has to clean up
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: process.env.PATH ?? '/usr/bin:/bin', TSV_ID: 'tsv-unpack' },
    });
    this.child.stdin.on('error', () => {}); // it has ended: `close` tells why
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-stderrMax);
    });
    createInterface({ input: this.child.stdout }).on('line', (line) =>
      this.answered(JSON.parse(line) as Answer | Waiting),
    );
    this.ended = new Promise((resolve) => {
      this.child.once('error', (error: NodeJS.ErrnoException) => {
        const missing = error.code === 'ENOENT';
        this.fail(
          new TsvError(missing ? 'TSV_HOST_MISSING' : 'TSV_STORE', `the program ${file} could not be started`, {
            hint: missing ? 'sudo apt-get install util-linux' : '',
            cause: error,
          }),
        );
        resolve();
      });
      this.child.once('close', (code, signal) => {
        this.fail(
          new TsvError('TSV_STORE', 'a process that unpacks layers has ended', {
            details: [signal ?? `exit code ${code}`, ...this.stderr.trimEnd().split('\n').slice(-8)],
          }),
        );
        resolve();
      });
    });
  }

  get isUsable(): boolean {
    return this.failure === undefined;
  }

  /** Sends a request and waits for its answer. @throws what the process says, or that it has ended */
  async ask(kind: Exclude<FrameKind, 'data'>, content: object = {}): Promise<Exclude<Answer, { error: unknown }>> {
    this.throwFailure();
    const answer = new Promise<Answer>((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
    const bytes = Buffer.from(JSON.stringify(content));
    this.child.stdin.write(Buffer.concat([frameHead(kind, bytes.length), bytes]));
    const result = await answer;
    if ('error' in result) throw TsvError.fromJSON(result.error);
    return result;
  }

  /** Sends data; resolves when the pipe takes more. */
  async send(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length; at += dataMax) {
      this.throwFailure();
      const piece = chunk.subarray(at, at + dataMax);
      const { stdin } = this.child;
      stdin.cork();
      stdin.write(frameHead('data', piece.length));
      const ready = stdin.write(piece);
      stdin.uncork();
      if (!ready) await this.drained();
    }
    this.throwFailure();
  }

  /** The end of its input: it cleans up and ends. While it waits for a lock it sees no end, and has made nothing. */
  end(): void {
    this.child.stdin.end();
    if (this.waitsForLock) this.child.kill('SIGKILL');
  }

  /** Whoever waits gets this error. */
  fail(error: TsvError): void {
    this.failure ??= error;
    this.waiting?.reject(error);
    this.waiting = undefined;
    this.child.stdin.emit('drain');
  }

  private drained(): Promise<void> {
    return new Promise((resolve) => this.child.stdin.once('drain', resolve));
  }

  private throwFailure(): void {
    const error = this.early ?? this.failure;
    this.early = undefined;
    if (error !== undefined) throw error;
  }

  private answered(answer: Answer | Waiting): void {
    this.waitsForLock = 'waiting' in answer;
    if ('waiting' in answer) return;
    if (this.waiting !== undefined) this.waiting.resolve(answer);
    else if ('error' in answer) this.early = TsvError.fromJSON(answer.error);
    this.waiting = undefined;
  }
}
