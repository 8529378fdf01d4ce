import { TsvError } from '../model/errors.ts';
import type { ExecRequest } from '../model/provider.ts';
import { quoteWord, quoteWords } from './quote.ts';

/**
 * How a request becomes a command of the remote shell.
 *
 * A command line shows in the remote `ps`, so it holds nothing of the request: it is a fixed loader that reads from
 * stdin a number of lines, then these lines, and runs them. POSIX `read` takes a pipe byte by byte, so whatever follows these
 * lines is the program's own stdin, untouched. A terminal cannot carry them (echo, 4096-byte lines): there a private
 * file does, which removes itself.
 *
 * Before the program starts, the loader says `TOKEN PROCESS-GROUP` on stderr; the client takes this line out again.
 * It is needed for signals: sshd refuses to pass them to programs of root, and cannot pass them through sudo.
 */
const announce = 'read -r a a a a g a </proc/$$/stat;echo "$1 $g" >&2;';
const loader = `${announce}read -r n||exit 255;p=;while [ $n -gt 0 ];do IFS= read -r l||exit 255;p="$p$l\n";n=$((n-1));done;eval "$p"`;
const fileLoader = `${announce}. "$2"`;

/** Who logged in, and whom the program is to run as. */
export interface Login {
  readonly username: string;
  readonly user: string;
}

const userName = /^[A-Za-z_][A-Za-z0-9_.-]*\$?$/;
const variableName = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The remote shell's lines that set up and become the program. Never put on a command line when `env` is there. */
export function program(request: ExecRequest, login: Login): string {
  if (request.argv.length === 0) throw new TsvError('TSV_USAGE', 'no command to run');
  const lines: string[] = [];
  if (login.user !== login.username) {
    lines.push(`export HOME=~${checkUser(login.user)} USER=${login.user} LOGNAME=${login.user}`);
  }
  const variables = Object.entries(request.env ?? {});
  for (const [name, value] of variables) {
    if (!variableName.test(name)) throw new TsvError('TSV_USAGE', `'${name}' cannot be the name of a variable`);
    lines.push(`export ${name}=${quoteWord(value)}`);
  }
  lines.push(`cd ${request.cwd === undefined ? '"$HOME"' : quoteWord(request.cwd)} || exit 126`);
  lines.push(variables.length > 0 ? `exec ${quoteWords(request.argv)}` : become(request.argv));
  return `${lines.join('\n')}\n`;
}

/**
 * A script for `sh` is run by the one that reads these lines, where nothing of its variables was set: an emulated CPU needs a
 * moment for every program that starts.
 */
function become(argv: readonly string[]): string {
  const [program, option, script, name, ...args] = argv;
  if (program === '/bin/sh' && option === '-c' && script !== undefined && name === 'sh')
    return `unset a g l n p\nset -- ${quoteWords(args)}\neval ${quoteWord(script)}\nexit`;
  return `exec ${quoteWords(argv)}`;
}

/** The command line for a session without a terminal, which begins its stdin with `head` of the program's lines. */
export function onPipe(login: Login, token: string): string {
  return asUser(login, ['sh', '-c', loader, 'sh', token]);
}

/** What the loader reads: how many lines, and the lines. */
export const head = (text: string): string => `${text.split('\n').length - 1}\n${text}`;

/** The command line for a session with a terminal; `file` holds the program's lines in the machine. */
export function onTerminal(file: string, login: Login, token: string): string {
  return asUser(login, ['sh', '-c', fileLoader, 'sh', token, file]);
}

function asUser(login: Login, argv: readonly string[]): string {
  if (login.user === login.username) return `exec ${quoteWords(argv)}`;
  const user = checkUser(login.user);
  if (login.username !== 'root') return `exec sudo -n -u ${user} -- ${quoteWords(argv)}`;
  // busybox has no runuser; its su hands everything behind -c to the shell as $0, $1, …
  const [, , script, ...rest] = argv;
  return (
    `if command -v runuser >/dev/null; then exec runuser -u ${user} -- ${quoteWords(argv)}; fi; ` +
    `exec su -s /bin/sh ${user} -c ${quoteWords([script ?? '', ...rest])}`
  );
}

function checkUser(name: string): string {
  if (!userName.test(name)) throw new TsvError('TSV_USAGE', `'${name}' cannot be the name of a user`);
  return name;
}
