import { request as httpRequest } from 'node:http';
import type { Duplex } from 'node:stream';
import type { ExecRequest, ExecSession, Transport } from '../model/provider.ts';
import type { Question } from './health-check.ts';

/** What a check has found. */
export type Answer =
  | { readonly healthy: true }
  | {
      readonly healthy: false;
      /** How it failed, in a few words. */
      readonly why: string;
      /** The last lines of what it printed, or was answered. */
      readonly output: readonly string[];
    };

/** Ways to the machine that is asked. */
export interface Ways {
  connect(): Promise<Transport>;
  /** To a port at its first address. */
  dial(port: number): Promise<Duplex>;
}

/** A question under way. */
export interface Asked {
  /** Never rejects. Resolves only when nothing of the question is left, however long that takes. */
  readonly answer: Promise<Answer>;
  /** Gives it up: what it has started is ended. */
  cut(): void;
  /** Lines that it has printed so far. */
  said(): readonly string[];
}

export function ask(question: Question, ways: Ways): Asked {
  switch (question.by) {
    case 'exec':
      return askProgram(question.request, ways);
    case 'http':
      return askHttp(question, ways);
    case 'tcp':
      return askTcp(question.port, ways);
  }
}

const failed = (error: unknown): Answer => ({
  healthy: false,
  why: error instanceof Error ? error.message : String(error),
  output: [],
});

function askProgram(request: ExecRequest, ways: Ways): Asked {
  const output = new Tail();
  let running: ExecSession | undefined;
  let isCut = false;
  /** Also lets go of its output: somebody in the background may hold that open for ever. */
  const kill = (session: ExecSession): void => {
    session.signal('KILL');
    for (const stream of [session.stdin, session.stdout, session.stderr]) stream.destroy();
  };
  const run = async (): Promise<Answer> => {
    const session = await (await ways.connect()).exec(request);
    running = session;
    session.stdin.on('error', () => {}); // it need not read
    for (const stream of [session.stdout, session.stderr]) {
      stream.on('error', () => {});
      stream.on('data', (data: Buffer) => output.add(data));
    }
    session.stdin.end();
    if (isCut) kill(session);
    const { code, signal } = await session.exited;
    if (code === 0) return { healthy: true };
    return {
      healthy: false,
      why: signal === undefined ? `exit code ${code}` : `killed by SIG${signal}`,
      output: output.lines(),
    };
  };
  return {
    answer: run().catch(failed),
    cut: () => {
      isCut = true;
      if (running !== undefined) kill(running);
    },
    said: () => output.lines(),
  };
}

/** Holds a connection that may come after it was given up. */
class Line {
  #stream: Duplex | undefined;
  #isCut = false;

  /** @throws what the dialling throws */
  async open(dialling: Promise<Duplex>): Promise<Duplex> {
    const stream = await dialling;
    stream.on('error', () => {}); // who uses it sees its end
    this.#stream = stream;
    if (this.#isCut) stream.destroy();
    return stream;
  }

  cut(): void {
    this.#isCut = true;
    this.#stream?.destroy();
  }
}

function askTcp(port: number, ways: Ways): Asked {
  const line = new Line();
  const run = async (): Promise<Answer> => {
    await line.open(ways.dial(port));
    line.cut();
    return { healthy: true };
  };
  return { answer: run().catch(failed), cut: () => line.cut(), said: () => [] };
}

/** One GET on a connection of its own (RFC 9112), so neither a proxy nor a redirect leads anywhere else. */
function askHttp({ port, path }: Extract<Question, { by: 'http' }>, ways: Ways): Asked {
  const line = new Line();
  const body = new Tail();
  const run = async (): Promise<Answer> => {
    const stream = await line.open(ways.dial(port));
    return await new Promise<Answer>((resolve, reject) => {
      const request = httpRequest({
        createConnection: () => stream,
        path,
        headers: { host: `localhost:${port}`, 'user-agent': 'tsv', accept: '*/*' },
      });
      request.on('error', reject);
      request.on('close', () => reject(new Error('the connection was closed without an answer')));
      request.on('response', (response) => {
        const { statusCode: status = 0 } = response;
        const done = (): void => {
          const healthy = status >= 200 && status < 400;
          resolve(healthy ? { healthy } : { healthy, why: `HTTP status ${status}`, output: body.lines() });
          request.destroy();
        };
        if (status >= 200 && status < 400) return done();
        response.on('error', done);
        response.on('close', done);
        response.on('data', (data: Buffer) => {
          body.add(data);
          if (body.isFull) done();
        });
      });
      request.end();
    }).finally(() => line.cut());
  };
  return { answer: run().catch(failed), cut: () => line.cut(), said: () => body.lines() };
}

const keptBytes = 4096;
const keptLines = 10;

/** The end of what is added. */
class Tail {
  #bytes: Buffer = Buffer.alloc(0);

  add(data: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, data.subarray(-keptBytes)]).subarray(-keptBytes);
  }

  get isFull(): boolean {
    return this.#bytes.length === keptBytes;
  }

  lines(): readonly string[] {
    const text = this.#bytes.toString('utf8').trimEnd();
    return text === '' ? [] : text.split('\n').slice(-keptLines);
  }
}
