import { parseDigest } from '../../src/store/content/digest.ts';
import { ContentStore } from '../../src/store/content/store.ts';
import { HttpClient } from '../../src/store/download/http.ts';
import { httpFile } from './http-file.ts';

/*
 * A process of its own that gets one blob: FOLDER URL DIGEST SIZE. It prints each new progress in bytes, and at the end
 * `done` or the code and the text of the error.
 */
const [folder = '', url = '', digest = '', size = ''] = process.argv.slice(2);
const client = new HttpClient({ env: {} });
let before = -1;
try {
  const descriptor = { mediaType: 'x', digest: parseDigest(digest), size: Number(size) };
  await ContentStore.open(folder).ingest(descriptor, httpFile(url, client), {
    signal: new AbortController().signal,
    progress: (done) => {
      if (done !== before) process.stdout.write(`${done}\n`);
      before = done;
    },
    download: { backoffMs: 0 },
  });
  process.stdout.write('done\n');
} catch (error) {
  const { code, message, details } = error as { code?: string; message?: string; details?: readonly string[] };
  process.stdout.write(`${code} ${message} ${JSON.stringify(details)}\n`);
  process.exitCode = 1;
} finally {
  await client.close();
}
