/** A line of user_namespaces(7)'s uid_map: ids `inside`..+count are `outside`..+count on the host. */
export interface IdRange {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** The id on the host of one inside. undefined: nobody there has it. */
export function idOutside(ranges: readonly IdRange[], id: number): number | undefined {
  const range = ranges.find(({ inside, count }) => id >= inside && id < inside + count);
  return range === undefined ? undefined : range.outside + id - range.inside;
}
