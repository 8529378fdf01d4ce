import type { Duplex, Readable, Writable } from 'node:stream';

/**
 * Copies a stream to its end and leaves the target open; resolves when the last byte was taken. Reads no faster than
 * the target takes. stream.pipeline would not do: ssh2's channels override destroy(), and never call back for a
 * write that is still unsent when the channel closes.
 * Rejects when the target closes or either side fails; the source is then destroyed.
 */
export function copy(source: Readable, target: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    let writing = false;
    let ended = false;
    const done = (error?: Error) => {
      source.off('data', onData).off('end', onEnd).off('error', done).off('close', onSourceClose);
      target.off('close', onTargetClose).off('error', done);
      if (error === undefined) return resolve();
      source.destroy();
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      source.pause();
      writing = true;
      target.write(chunk, (error) => {
        writing = false;
        if (error) return done(error);
        if (ended) return done();
        source.resume();
      });
    };
    const onEnd = () => {
      ended = true;
      if (!writing) done();
    };
    const onSourceClose = () => {
      if (!ended && !source.readableEnded) done(new Error('the source closed before its end'));
    };
    const onTargetClose = () => done(new Error('the target closed'));
    source.on('error', done).on('close', onSourceClose).on('end', onEnd);
    target.on('close', onTargetClose).on('error', done);
    if (source.readableEnded) return onEnd();
    source.on('data', onData);
  });
}

/** Small packets go out at once (tcp(7), TCP_NODELAY): with Nagle's algorithm a round trip of SFTP takes 40 ms. */
export function quick(stream: Duplex): void {
  (stream as { setNoDelay?: (on: boolean) => void }).setNoDelay?.(true);
}
