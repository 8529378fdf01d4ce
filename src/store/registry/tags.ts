import { TsvError } from '../../model/errors.ts';
import { RemoteError } from '../download/remote.ts';
import { type Endpoint, repositoryAt } from './endpoints.ts';
import { badAnswer } from './failures.ts';
import { isTag, type Reference } from './reference.ts';
import type { Session } from './session.ts';

const pageLimitBytes = 4 << 20;
const pageSize = 1000;
/** A registry that never comes to an end is not waited for. */
const pageLimit = 200;
export const tagLimit = 100_000;

/** distribution-spec, "Listing Tags": page after page of one endpoint. What is no tag by the grammar is left out. */
export async function* listTags(session: Session, endpoint: Endpoint, reference: Reference): AsyncGenerator<string> {
  const { base, access } = repositoryAt(endpoint, reference);
  let target: string | URL = `${base}/tags/list?n=${pageSize}`;
  let count = 0;
  for (let page = 0; page < pageLimit; page += 1) {
    const response = await session.ask(endpoint, { target, access, signal: session.options.signal });
    if (response.status !== 200) throw await badAnswer(endpoint, response, `tags of ${reference.repository}`);
    const { link } = response.headers;
    const bytes = await response.bytes(pageLimitBytes).catch((error: unknown) => {
      throw error instanceof RemoteError ? session.unreachable(endpoint, error) : error;
    });
    for (const tag of parseTags(bytes, endpoint)) {
      yield tag;
      count += 1;
      if (count === tagLimit) return;
    }
    const next = nextLink(link);
    if (next === undefined) return;
    target = checkedNext(next, response.url, endpoint);
  }
}

function parseTags(bytes: Buffer, endpoint: Endpoint): string[] {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    // said below
  }
  const { tags } = (typeof value === 'object' && value !== null ? value : {}) as { tags?: unknown };
  if (tags === null) return []; // as registries written in Go say "none"
  if (Array.isArray(tags)) return tags.filter((tag): tag is string => typeof tag === 'string' && isTag(tag));
  throw new TsvError('TSV_REGISTRY', `${endpoint.name} answers with something that is no list of tags`, {
    hint: `check that ${endpoint.name} is a registry`,
  });
}

/** Pure. The target of `rel="next"` of a Link field (RFC 8288). */
export function nextLink(field: string | undefined): string | undefined {
  for (const [, target, parameters = ''] of (field ?? '').matchAll(/<([^>]*)>([^<]*)/g))
    if (/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=[\s,;]|$))/i.test(parameters)) return target;
  return undefined;
}

/** The list goes on where it began: a token of this registry is for this registry. */
function checkedNext(link: string, from: URL, endpoint: Endpoint): URL {
  const next = URL.canParse(link, from.href) ? new URL(link, from) : undefined;
  const isOwn = next?.host === from.host && next.pathname.startsWith('/v2/');
  if (next !== undefined && isOwn) return new URL(`${next.pathname}${next.search}`, from);
  throw new TsvError('TSV_REGISTRY', `the list of tags of ${endpoint.name} goes on at another place`, {
    details: [
      next === undefined ? 'its Link is no URL' : `its Link leads to ${next.host}${next.pathname.slice(0, 100)}`,
    ],
    hint: 'that place is not asked; whoever runs the registry has to mend this',
  });
}
