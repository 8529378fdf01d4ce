import { readSync, writeSync } from 'node:fs';
import { Notes } from './copy/failures.ts';
import { pack } from './copy/pack.ts';
import { copyPath } from './copy/path.ts';
import { type CopyJob, mappedIds } from './copy/types.ts';
import { Unpacker } from './copy/unpack.ts';
import { toTsvError } from './model/errors.ts';

/**
 * The process that copies files of a container: an archive comes on its standard input or goes to its standard output, words
 * for people to the other one. It sees the container by descriptor 3 and by nothing else, with the ids of its root, and ends
 * with its input, or when nobody takes its output any more; then nothing is left that is not whole.
 */
const root = 3;
const chunkBytes = 1 << 18;

function main(job: CopyJob): void {
  process.umask(0);
  const notes = new Notes();
  const options = { root, path: copyPath(job.path), ids: mappedIds(job), notes };
  if (job.do === 'pack') {
    for (const chunk of pack({ ...options, follow: job.follow }))
      for (let at = 0; at < chunk.length; ) at += writeSync(1, chunk, at);
  } else {
    const { source, owners } = job;
    const unpacker = new Unpacker({
      ...options,
      ...(source === undefined ? {} : { source }),
      owners: owners ? 'keep' : 'own',
    });
    try {
      const buffer = Buffer.allocUnsafe(chunkBytes);
      for (let count = readSync(0, buffer); count > 0; count = readSync(0, buffer))
        unpacker.push(buffer.subarray(0, count));
      unpacker.finish();
    } finally {
      unpacker.close();
    }
  }
  for (const note of notes.all) console.error(note);
}

try {
  main(JSON.parse(process.argv[2] ?? '') as CopyJob);
} catch (error) {
  const failure = toTsvError(error);
  if ((error as NodeJS.ErrnoException).code !== 'EPIPE')
    console.error(failure.code === 'TSV_INTERNAL' ? error : failure.message);
  process.exitCode = 1;
}
