/** Reads ahead, up to a limit: the next part comes while this one is written, and the network while the disk works. */
export class Prefetch {
  private readonly limitBytes: number;
  private readonly work: Promise<void>;
  private chunks: Uint8Array[] = [];
  private bytes = 0;
  private ended = false;
  private stopped = false;
  private failure: { readonly error: unknown } | undefined;
  private wakeReader: () => void = nothing;
  private wakeSource: () => void = nothing;

  constructor(source: AsyncIterable<Uint8Array>, limitBytes: number) {
    this.limitBytes = limitBytes;
    this.work = this.run(source);
  }

  /** What has come so far, at least one chunk; undefined at the end. @throws what the source threw, after its bytes */
  async take(): Promise<readonly Uint8Array[] | undefined> {
    while (this.chunks.length === 0) {
      if (this.failure !== undefined) throw this.failure.error;
      if (this.ended) return undefined;
      await new Promise<void>((resolve) => {
        this.wakeReader = resolve;
      });
    }
    const { chunks } = this;
    this.chunks = [];
    this.bytes = 0;
    this.wakeSource();
    return chunks;
  }

  /** Lets go of the source, which its owner has aborted. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.wakeSource();
    await this.work;
  }

  private async run(source: AsyncIterable<Uint8Array>): Promise<void> {
    try {
      for await (const chunk of source) {
        this.chunks.push(chunk);
        this.bytes += chunk.length;
        this.wakeReader();
        while (this.bytes >= this.limitBytes && !this.stopped) {
          await new Promise<void>((resolve) => {
            this.wakeSource = resolve;
          });
        }
        if (this.stopped) break;
      }
    } catch (error) {
      this.failure = { error };
    }
    this.ended = true;
    this.wakeReader();
  }
}

const nothing = () => {};
