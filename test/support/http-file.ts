import type { HttpClient } from '../../src/store/download/http.ts';
import { rangeBody, rangeHeaders } from '../../src/store/download/range.ts';
import type { RemoteFile } from '../../src/store/download/remote.ts';

/** A file at a plain http(s) URL; a name and password in it are used, and shown nowhere. */
export function httpFile(url: string, client: HttpClient): RemoteFile {
  const name = withoutUserinfo(url);
  return {
    name,
    open: async (request) =>
      rangeBody(await client.request(url, { headers: rangeHeaders(request), signal: request.signal }), request, name),
  };
}

function withoutUserinfo(text: string): string {
  if (!URL.canParse(text)) return text;
  const url = new URL(text);
  url.username = url.password = '';
  return url.href;
}
