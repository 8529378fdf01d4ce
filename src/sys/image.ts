import { TsvError } from '../model/errors.ts';
import { destinations, modes, stepBytes } from './interpreter.ts';
import { NR } from './libc.ts';
import { type Argument, type CallStep, reportCodes, type Step, type Word } from './program.ts';

/** A program as the interpreter reads it: the report, step tables, strings and structures, for one address. */
export interface Image {
  readonly bytes: Buffer;
  /** Address of the first step. */
  readonly start: bigint;
  readonly report: bigint;
  /** Steps by address, for error messages. */
  readonly steps: ReadonlyMap<bigint, Step>;
}

const endOfParent: Step = { call: 'exit_group', args: [0] };
const endOfProgram: Step = { call: 'exit_group', args: [127] };

/**
 * Lays a program out for `base`. Pure: the same program gives the same bytes.
 * @param fdNumber the number that a descriptor has where the program runs; `status` is the one that reports go to
 */
export function layOut(program: readonly Step[], base: bigint, fdNumber: (name: string) => number): Image {
  let bytes = Buffer.alloc(1 << 14);
  let top = 0;
  const reserve = (length: number): number => {
    const at = top;
    top = (top + length + 7) & ~7;
    if (top > bytes.length) bytes = Buffer.concat([bytes, Buffer.alloc(Math.max(top - bytes.length, bytes.length))]);
    return at;
  };
  const place = (content: Uint8Array): bigint => {
    const at = reserve(content.length);
    bytes.set(content, at);
    return base + BigInt(at);
  };
  const placeWords = (words: readonly bigint[]): bigint => {
    const content = Buffer.alloc(words.length * 8);
    words.forEach((word, i) => {
      content.writeBigUInt64LE(BigInt.asUintN(64, word), i * 8);
    });
    return place(content);
  };
  const cString = (text: string): bigint => {
    if (text.includes('\0')) throw new TsvError('TSV_SYSCALL', `a NUL byte in '${text.replaceAll('\0', '\\0')}'`);
    return place(Buffer.from(`${text}\0`));
  };
  const labelled = new Map<bigint, Step>();
  /** Steps whose result is still to be used: it will be stored right where it is used. */
  const results = new Map<string, { readonly at: number; readonly free: number[] }>();
  const use = (name: string, slot: bigint): void => {
    const result = results.get(name);
    const destination = result?.free.shift();
    if (result === undefined || destination === undefined)
      throw new TypeError(`syscall program: result '${name}' is used more than twice, or before it is there`);
    bytes.writeBigUInt64LE(slot, result.at + destination);
  };
  const keep = (name: string, at: number): void => {
    results.set(name, { at, free: [...destinations] });
  };

  const word = (value: Word): bigint => {
    if (typeof value !== 'object') return BigInt(value);
    if ('words' in value) return placeWords(value.words.map(word));
    return 'fd' in value ? BigInt(fdNumber(value.fd)) : place(value.bytes);
  };
  const encode = (argument: Argument, slot: bigint): bigint => {
    if (typeof argument === 'number' || typeof argument === 'bigint') return BigInt(argument);
    if (typeof argument === 'string') return cString(argument);
    if ('bytes' in argument) return place(argument.bytes);
    if ('fd' in argument) return BigInt(fdNumber(argument.fd));
    if ('words' in argument) return placeWords(argument.words.map(word));
    if ('fdPath' in argument) return cString(`/proc/self/fd/${fdNumber(argument.fdPath)}`);
    if ('strings' in argument) return placeWords([...argument.strings.map(cString), 0n]);
    use(argument.result, slot);
    return 0n;
  };
  const put = (at: number, nr: number, args: readonly Argument[], mode: number, target = 0n): void => {
    // Encoding may move `bytes` to a larger buffer: numbers first, then write.
    const numbers = args.map((argument, i) => encode(argument, base + BigInt(at + 8 + 8 * i)));
    bytes.writeBigInt64LE(BigInt(nr), at);
    numbers.forEach((number, i) => {
      bytes.writeBigUInt64LE(BigInt.asUintN(64, number), at + 8 + 8 * i);
    });
    bytes.writeBigInt64LE(BigInt(mode), at + 56);
    bytes.writeBigUInt64LE(target, at + 72);
  };
  const store = (at: number, step: CallStep): void => {
    if (step.as !== undefined) keep(step.as, at);
  };
  /** One table; `try` steps and what depends on them are in a row. */
  const table = (steps: readonly Step[]): bigint => {
    const flat = [...flatten(steps)];
    const start = reserve(flat.length * stepBytes);
    const address = (index: number): bigint => base + BigInt(start + index * stepBytes);
    flat.forEach(({ step, skipTo }, i) => {
      const at = start + i * stepBytes;
      labelled.set(address(i), step);
      if ('report' in step) {
        const message = placeWords([BigInt(reportCodes[step.report]), 0n]);
        if (step.value !== undefined) use(step.value, message + 8n);
        put(at, NR.write, [{ fd: 'status' }, message, 16], modes.must);
      } else if ('fork' in step) {
        keep(step.as, at);
        put(at, NR.clone, [step.fork, 0, 0, 0, 0], modes.fork, table([...step.parent, endOfParent]));
      } else if ('jump' in step) {
        put(at, -2, [], modes.fork, step.jump === rest ? address(skipTo) : table([...step.jump, endOfProgram]));
      } else if ('end' in step) {
        put(at, -1, [{ result: step.end }], modes.must);
      } else if ('try' in step) {
        put(
          at,
          NR[step.try.call],
          step.try.args,
          step.unless === 'absent' ? modes.present : modes.try,
          address(skipTo),
        );
        store(at, step.try);
      } else {
        put(at, NR[step.call], step.args, modes[step.mode ?? 'must']);
        store(at, step);
      }
    });
    return address(0);
  };

  const report = base + BigInt(reserve(24));
  const start = table([...program, endOfProgram]);
  bytes.writeBigInt64LE(BigInt(fdNumber('status')), Number(report - base));
  return { bytes: bytes.subarray(0, top), start, report, steps: labelled };
}

/** Stands for what follows a `try` and its `otherwise`. */
const rest: readonly Step[] = [];

/** Steps in the order of their table, each with the index to go on at when it is left out. */
function* flatten(steps: readonly Step[], first = 0): Generator<{ step: Step; skipTo: number }, number> {
  let index = first;
  for (const step of steps) {
    if (!('try' in step)) {
      yield { step, skipTo: ++index };
      continue;
    }
    const otherwise = step.otherwise ?? [];
    const inner = [...flatten(step.steps, index + 1)];
    const elseAt = index + 1 + inner.length + (otherwise.length === 0 ? 0 : 1);
    const outer = [...flatten(otherwise, elseAt)];
    const end = elseAt + outer.length;
    yield { step, skipTo: elseAt };
    yield* inner;
    if (otherwise.length > 0) yield { step: { jump: rest }, skipTo: end };
    yield* outer;
    index = end;
  }
  return index;
}
