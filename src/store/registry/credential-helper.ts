import { spawn } from 'node:child_process';
import { TsvError } from '../../model/errors.ts';

/** Somebody may have to unlock a key first. */
const defaultTimeoutMs = 60_000;
const outputLimit = 1 << 20;

export interface HelperOptions {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Where the helper's name stands, for people. */
  readonly file: string;
  readonly timeoutMs?: number;
}

export interface HelperCredentials {
  /** `<token>`: the secret is an identity token. */
  readonly username: string;
  readonly secret: string;
}

/**
 * Asks `docker-credential-NAME get` for what it has for a server; undefined when it has nothing
 * (protocol: docker-credential-helpers' README; the answer on standard output is JSON, or a message).
 * @throws TSV_REGISTRY_LOGIN when the helper is missing, fails, hangs or says something else
 */
export async function getFromHelper(
  name: string,
  server: string,
  options: HelperOptions,
): Promise<HelperCredentials | undefined> {
  const { code, stdout, stderr } = await runHelper(name, 'get', server, options);
  const said = (stdout.trim() || stderr.trim()).slice(0, 500);
  if (code !== 0) {
    if (/credentials not found/i.test(said)) return undefined;
    throw failed(name, options, `it ended with code ${code}: ${said}`);
  }
  let answer: { Username?: unknown; Secret?: unknown };
  try {
    answer = JSON.parse(stdout) as typeof answer;
  } catch (cause) {
    throw failed(name, options, 'what it says is no JSON', cause);
  }
  const { Username: username, Secret: secret } = answer ?? {};
  if (typeof username !== 'string' || typeof secret !== 'string')
    throw failed(name, options, 'its answer has no Username and Secret');
  return username === '' && secret === '' ? undefined : { username, secret };
}

/** `store`: the secret goes over standard input, never into an argument. @throws as {@link getFromHelper} */
export async function storeInHelper(
  name: string,
  server: string,
  { username, secret }: HelperCredentials,
  options: HelperOptions,
): Promise<void> {
  const input = JSON.stringify({ ServerURL: server, Username: username, Secret: secret });
  await mustEndWell(name, 'store', input, options);
}

/** `erase`. Gone is success. */
export async function eraseFromHelper(name: string, server: string, options: HelperOptions): Promise<void> {
  await mustEndWell(name, 'erase', server, options);
}

async function mustEndWell(name: string, verb: string, input: string, options: HelperOptions): Promise<void> {
  const { code, stdout, stderr } = await runHelper(name, verb, input, options);
  const said = (stdout.trim() || stderr.trim()).slice(0, 500);
  if (code === 0 || (verb === 'erase' && /credentials not found/i.test(said))) return;
  throw failed(name, options, `it ended with code ${code}: ${said}`);
}

function runHelper(
  name: string,
  verb: string,
  input: string,
  options: HelperOptions,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  // It becomes the name of a program: nothing that leads to another folder.
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name))
    throw failed(name, options, 'a helper has a name of letters and digits');
  const timeoutMs = options.timeoutMs ?? defaultTimeoutMs;
  return new Promise((resolve, reject) => {
    if (options.signal.aborted) return reject(cancelled());
    // A group of its own: a helper is often a script, and what it has started is to end with it.
    const child = spawn(`docker-credential-${name}`, [verb], {
      env: options.env,
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const give = (reason: TsvError): void => {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) killGroup(child.pid);
      finish(() => reject(reason));
    };
    const timer = setTimeout(() => {
      give(failed(name, options, `it did not answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    const abort = (): void => give(cancelled());
    options.signal.addEventListener('abort', abort, { once: true });
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      options.signal.removeEventListener('abort', abort);
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
      settle();
    };
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(0, outputLimit);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-outputLimit);
    });
    child.stdin.on('error', () => {}); // EPIPE: it did not want its input; its code tells the rest
    child.stdin.end(`${input}\n`);
    child.on('error', (cause) => finish(() => reject(notStarted(name, options, cause))));
    child.on('close', (code) => finish(() => resolve({ code, stdout, stderr })));
  });
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

const cancelled = (): TsvError => new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });

const failed = (name: string, { file }: HelperOptions, why: string, cause?: unknown): TsvError =>
  new TsvError('TSV_REGISTRY_LOGIN', `the credential helper docker-credential-${name} failed`, {
    details: [printable(why), `${file} names it`],
    hint: `try it (echo HOST | docker-credential-${name} get), or take it out of ${file}`,
    ...(cause === undefined ? {} : { cause }),
  });

/** EACCES is what a folder of PATH leaves of "not found" that this user may not look into (execvp(3)). */
const notStarted = (name: string, options: HelperOptions, cause: Error): TsvError =>
  ['ENOENT', 'EACCES'].includes((cause as NodeJS.ErrnoException).code ?? '')
    ? new TsvError('TSV_REGISTRY_LOGIN', `the credential helper docker-credential-${name} is not installed`, {
        details: [`${options.file} names it, and no folder of PATH has one that this user may run`],
        hint: `install it, or take it out of ${options.file} (credsStore, credHelpers)`,
        cause,
      })
    : failed(name, options, cause.message, cause);

/** What another program says is shown without anything that a terminal would obey. */
export const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trim();
