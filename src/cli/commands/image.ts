import { resolve } from 'node:path';
import {
  loadArchive,
  pullByHand,
  push as pushImage,
  removeImages,
  repositoryTags,
  tagImage,
  type Work,
} from '../../app/image.ts';
import { imageDetails, imageHistory, unpackedBytes } from '../../app/image-details.ts';
import { familiarText } from '../../app/image-list.ts';
import { login as loginToRegistry, logout as logoutOfRegistry } from '../../app/image-login.ts';
import { saveImages } from '../../app/image-save.ts';
import { TsvError } from '../../model/errors.ts';
import type { StoredImage } from '../../model/image.ts';
import { ask } from '../ask.ts';
import type { Handler, Session } from '../program.ts';
import { withProgress } from '../progress.ts';
import { jsonLine, jsonText } from '../render/json.ts';
import { formatAge, formatBytes } from '../render/size.ts';
import { renderTable } from '../render/table.ts';
import { readTerminal } from '../render/terminal.ts';
import { harmless } from '../render/text.ts';

interface Options {
  readonly platform?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

const work = (session: Session, options: Options, run: (work: Work) => Promise<void>): Promise<void> =>
  withProgress(session, options, (emit, signal) =>
    run({
      place: session.place,
      emit,
      signal,
      ...(options.platform === undefined ? {} : { platform: options.platform }),
    }),
  );

/** Ctrl-C ends what shows no progress, too. */
async function interruptible<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const stop = () => abort.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  try {
    return await run(abort.signal);
  } finally {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, stop);
  }
}

const say = (session: Session, text: string): void => void session.stdout.write(`${text}\n`);

const thereIs = (image: StoredImage, place: Session['place']): string =>
  `${image.digest}, ${formatBytes(unpackedBytes(place, image))} in ${image.layers.length} ${image.layers.length === 1 ? 'layer' : 'layers'}`;

export const pull: Handler<Options> = async (session, references, options) => {
  const lines: string[] = [];
  await work(session, options, async (all) => {
    for (const reference of references) {
      const { image, isNew } = await pullByHand(reference, all);
      lines.push(
        options.quiet === true
          ? image.reference
          : `${familiarText(image.reference)} ${isNew ? 'is here' : 'is up to date'}: ${thereIs(image, session.place)}`,
      );
    }
  });
  for (const line of lines) say(session, line);
  return 0;
};

export const remove: Handler<{ force?: boolean }> = async (session, words, options) => {
  const { names, digests, bytes, refused } = await interruptible((signal) =>
    removeImages(session.place, words, {
      force: options.force === true,
      signal,
      waiting: (text) => void session.stderr.write(`${text}\n`),
    }),
  );
  for (const { reference } of names) if (reference !== undefined) say(session, `Untagged: ${familiarText(reference)}`);
  for (const digest of digests) say(session, `Deleted: ${digest}`);
  if (bytes > 0) say(session, `${formatBytes(bytes)} are free again`);
  return reportRefused(session, refused);
};

export function reportRefused(session: Session, refused: readonly { path: string; why: string }[]): number {
  for (const { path, why } of refused) session.stderr.write(`${harmless(`not removed: ${path}: ${why}`)}\n`);
  return refused.length === 0 ? 0 : 1;
}

export const inspect: Handler<Options> = async (session, words, options) => {
  const details = words.map((word) => imageDetails(session.place, word, options.platform));
  say(session, jsonText(details));
  return 0;
};

export const history: Handler<Options & { trunc?: boolean }> = async (session, [word = ''], options) => {
  const lines = imageHistory(session.place, word, options.platform);
  if (options.json === true) {
    say(session, jsonLine(lines));
    return 0;
  }
  const now = Date.now();
  const rows = lines.map(({ created, createdBy, bytes, comment = '' }) => [
    formatAge(created, now),
    options.trunc === false || createdBy.length <= 60 ? createdBy : `${createdBy.slice(0, 59)}…`,
    formatBytes(bytes),
    comment,
  ]);
  const header = ['CREATED', 'CREATED BY', 'SIZE', 'COMMENT'];
  session.stdout.write(renderTable(header, rows, readTerminal(session.stdout, session.place.env)));
  return 0;
};

export const tag: Handler<object> = async (session, [from = '', to = '']) => {
  await interruptible((signal) => tagImage(session.place, from, to, signal));
  return 0;
};

export const save: Handler<
  Options & { output?: string; format: 'oci-archive' | 'docker-archive' | 'oci-dir' }
> = async (session, words, options) => {
  const { output, format } = options;
  if (output === undefined && format === 'oci-dir')
    throw new TsvError('TSV_USAGE', 'a folder needs a name', { hint: 'tsv image save --format oci-dir -o FOLDER …' });
  if (output === undefined && session.stdout.isTTY) {
    throw new TsvError('TSV_USAGE', 'an archive is nothing for a terminal', {
      hint: `tsv image save -o FILE ${words.join(' ')}, or a pipe behind it`,
    });
  }
  const target =
    output === undefined ? { name: 'standard output', stream: session.stdout } : resolve(session.place.cwd, output);
  await work(session, options, (all) => saveImages(words, target, format, all));
  return 0;
};

export const load: Handler<Options & { input?: string }> = async (session, _, options) => {
  const { input } = options;
  if (input === undefined && session.stdin.isTTY) {
    throw new TsvError('TSV_USAGE', 'an archive is wanted, as a file or from a pipe', {
      hint: 'tsv image load -i FILE',
    });
  }
  const source =
    input === undefined ? { name: 'standard input', input: session.stdin } : resolve(session.place.cwd, input);
  await work(session, options, async (all) => {
    for (const { named, image } of await loadArchive(source, all)) {
      if (options.quiet === true) continue;
      say(session, named ? `Loaded image: ${familiarText(image.reference)}` : `Loaded image ID: ${image.digest}`);
    }
  });
  return 0;
};

export const push: Handler<Options> = async (session, [word = '', target], options) => {
  await work(session, options, async (all) => {
    const pushed = await pushImage(word, target, all);
    if (options.quiet === true) say(session, pushed.target);
    else
      say(session, `${pushed.target} is at its registry: ${pushed.digest}, ${formatBytes(pushed.uploadedBytes)} sent`);
  });
  return 0;
};

export const tags: Handler<Options> = async (session, [word = ''], options) => {
  const all = await interruptible((signal) => repositoryTags(session.place, word, signal));
  if (options.json === true) say(session, jsonLine(all));
  else session.stdout.write(all.map((name) => `${harmless(name)}\n`).join(''));
  return 0;
};

export const login: Handler<{ user?: string; passwordStdin?: boolean }> = async (session, [host = ''], options) => {
  const terminal = session.stdin.isTTY;
  if (options.passwordStdin === true && options.user === undefined)
    throw new TsvError('TSV_USAGE', '--password-stdin needs a user', {
      hint: `tsv image login -u USER --password-stdin ${host}`,
    });
  if (options.passwordStdin !== true && !terminal) {
    throw new TsvError('TSV_USAGE', 'there is no terminal to ask for a password on', {
      hint: `tsv image login -u USER --password-stdin ${host} < FILE`,
    });
  }
  const username = options.user ?? (await ask(session, 'User: ')).trim();
  const password =
    options.passwordStdin === true
      ? await wholeInput(session)
      : await ask(session, `Password of ${username} at ${host}: `, { hidden: true });
  const { registry, savedIn, isHelper } = await interruptible((signal) =>
    loginToRegistry(session.place, { registry: host, username, password }, signal),
  );
  say(session, `logged in to ${registry}; the credentials are in ${savedIn}`);
  if (!isHelper) session.stderr.write('They can be read there; a credential helper keeps them better (credsStore).\n');
  return 0;
};

/** One line break at the end is not part of it. */
async function wholeInput(session: Session): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of session.stdin) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks)
    .toString('utf8')
    .replace(/\r?\n$/, '');
}

export const logout: Handler<object> = async (session, [host = '']) => {
  const { registry, removedFrom, stillKnown } = await interruptible((signal) =>
    logoutOfRegistry(session.place, host, signal),
  );
  say(session, removedFrom === undefined ? `not logged in to ${registry}` : `logged out of ${registry}`);
  if (stillKnown) session.stderr.write('Another file still has credentials for it, such as that of Podman.\n');
  return 0;
};
