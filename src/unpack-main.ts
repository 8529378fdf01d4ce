import { writeSync } from 'node:fs';
import { toTsvError } from './model/errors.ts';
import { LayerJob } from './store/layer/job.ts';
import { type Answer, type Begin, readFrames, type Waiting } from './store/layer/protocol.ts';

/**
 * The process that unpacks layers, one after the other: bytes come in on its standard input, see
 * src/store/layer/protocol.ts. It runs as root of the sandbox's ids and ends with the command that started it.
 */
const answer = (message: Answer | Waiting): void => {
  writeSync(1, `${JSON.stringify(message)}\n`);
};

async function main(): Promise<void> {
  process.umask(0);
  let job: LayerJob | undefined;
  const failed = (error: unknown): void => {
    const failure = toTsvError(error);
    if (failure.code === 'TSV_INTERNAL') console.error(error);
    const unfinished = job;
    job = undefined;
    try {
      unfinished?.abandon();
    } catch (cause) {
      console.error(cause); // the first error is the one that counts; the next one for this layer removes the rest
    }
    answer({ error: failure.toJSON() });
  };
  for await (const { kind, bytes } of readFrames(process.stdin)) {
    try {
      if (kind === 'begin') {
        job = LayerJob.start(JSON.parse(bytes.toString('utf8')) as Begin, () => answer({ waiting: true }));
        answer(job === undefined ? { there: true } : { begun: true });
      } else if (job === undefined) {
        // Of a layer that has failed.
      } else if (kind === 'data') {
        await job.write(bytes);
      } else if (kind === 'finish') {
        const done = await job.finish();
        job = undefined;
        answer({ done });
      } else {
        const unfinished = job;
        job = undefined;
        unfinished.abandon();
        answer({ abandoned: true });
      }
    } catch (error) {
      failed(error);
    }
  }
  job?.abandon();
}

await main();
