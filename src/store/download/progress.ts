/** How fast something goes, as of its last sample. */
export interface Pace {
  /** Of any clock that never goes back, in ms. */
  readonly atMs: number;
  /** Bytes. */
  readonly done: number;
  /** Smoothed; undefined before the second sample. */
  readonly bytesPerSecond?: number;
}

const sampleMs = 250;
/** What happened this long ago counts for a third. */
const memoryMs = 4000;

/** The pace with one more look at it; looks that follow each other closely count as one. Bytes that go back begin anew. */
export function nextPace(before: Pace | undefined, atMs: number, done: number): Pace {
  if (before === undefined || done < before.done) return { atMs, done };
  const elapsed = atMs - before.atMs;
  if (elapsed < sampleMs) return before;
  const now = ((done - before.done) * 1000) / elapsed;
  const old = before.bytesPerSecond ?? now;
  return { atMs, done, bytesPerSecond: old + (now - old) * (1 - Math.exp(-elapsed / memoryMs)) };
}

/** `31 of 67 MB, 8.1 MB/s, 4 s left`; rate and time only when there are any. */
export function progressText(done: number, total: number, pace?: Pace): string {
  const unit = unitOf(total);
  const amount = `${inUnit(done, unit)} of ${inUnit(total, unit)} ${unit.name}`;
  const rate = pace?.bytesPerSecond;
  if (rate === undefined || done >= total) return amount;
  if (rate < 1) return `${amount}, waiting`;
  const unitOfRate = unitOf(rate);
  return `${amount}, ${inUnit(rate, unitOfRate)} ${unitOfRate.name}/s, ${durationText((total - done) / rate)} left`;
}

/** A {@link progressText} that keeps the pace by itself: called often, with bytes. */
export function progressTeller(clock: () => number = () => performance.now()): (done: number, total: number) => string {
  let pace: Pace | undefined;
  return (done, total) => {
    pace = nextPace(pace, clock(), done);
    return progressText(done, total, pace);
  };
}

interface Unit {
  readonly name: string;
  readonly bytes: number;
}

/** Powers of ten, as disks and registries count. */
const units: readonly Unit[] = [
  { name: 'TB', bytes: 1e12 },
  { name: 'GB', bytes: 1e9 },
  { name: 'MB', bytes: 1e6 },
  { name: 'kB', bytes: 1e3 },
];
const single: Unit = { name: 'B', bytes: 1 };

const unitOf = (bytes: number): Unit => units.find((unit) => bytes >= unit.bytes) ?? single;

function inUnit(amount: number, { bytes }: Unit): string {
  const value = amount / bytes;
  return bytes === 1 || value >= 9.95 ? String(Math.round(value)) : String(Number(value.toFixed(1)));
}

/** Of seconds: `23 s`, `4 min 10 s`, `2 h 5 min`. */
function durationText(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
