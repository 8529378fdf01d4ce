import { asObject, type Qmp, QmpError } from './qmp.ts';

/** Memory of some gigabytes takes minutes on a slow disk; QEMU answers nobody until then. */
const jobMs = 60 * 60_000;

/**
 * Runs one of QEMU's jobs to its end (QEMU's qapi/job.json). @throws QmpError with the job's own words
 * @param name unique among the jobs of this QEMU
 */
export async function runJob(
  qmp: Qmp,
  command: 'snapshot-save' | 'snapshot-load' | 'snapshot-delete',
  name: string,
  args: Readonly<Record<string, unknown>>,
): Promise<void> {
  const id = `${command}-${name}`;
  let heard = () => {};
  const concluded = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const leave = qmp.onEvent(({ event, data }) => {
    if (event === 'JOB_STATUS_CHANGE' && data.id === id && data.status === 'concluded') heard();
  });
  const gone = qmp.closed.then(() => {
    throw new QmpError('QEMU ended');
  });
  gone.catch(() => {});
  try {
    await qmp.execute(command, { 'job-id': id, ...args }, { timeoutMs: jobMs });
    await Promise.race([concluded, gone]);
  } finally {
    leave();
  }
  const jobs = await qmp.execute('query-jobs');
  const job = (Array.isArray(jobs) ? jobs : []).map(asObject).find((one) => one.id === id);
  await qmp.execute('job-dismiss', { id });
  if (job?.error !== undefined) throw new QmpError(String(job.error), 'GenericError');
}
