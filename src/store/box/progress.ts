/**
 * Turns the output of mmdebstrap and apt, line by line, into one short text such as `base system: 42/136 packages`.
 * @returns a line listener; it calls `tell` only when the text changes.
 */
export function packageProgress(what: string, tell: (text: string) => void): (line: string) => void {
  let total = 0;
  let done = 0;
  let before = '';
  const say = (text: string) => {
    if (text !== before) tell(text);
    before = text;
  };
  return (line) => {
    const planned = /^\d+ upgraded, (\d+) newly installed/.exec(line)?.[1];
    if (planned !== undefined) total += Number(planned);
    else if (line.startsWith('Setting up ')) done += 1;
    else if (/^(Get|Hit):\d+ /.test(line)) return say(`${what}: downloading`);
    else return;
    if (total > 0) say(`${what}: ${done}/${total} packages`);
  };
}
