export type { MissingLimit } from './apply.ts';
export { type ChangedLimits, changeLimits } from './change.ts';
export {
  type AppliedCgroup,
  type CgroupOptions,
  type CreatedCgroup,
  createCgroup,
  joinFolders,
  updateCgroup,
} from './create.ts';
export { findCgroup } from './find.ts';
export { canFreeze, type FreezeOptions, freeze, isFrozen, thaw } from './freeze.ts';
export { folderToJoin } from './join.ts';
export { killCgroup } from './kill.ts';
export { type CgroupLayout, detectCgroups, type Hierarchy } from './layout.ts';
export { type OomWatch, watchOom } from './oom.ts';
export { type Cgroup, type CgroupMember, placeBelowBase, placeCgroup, withInherited } from './place.ts';
export { cgroupProcesses } from './processes.ts';
export { type RemoveOptions, removeCgroup } from './remove.ts';
export { type CgroupStats, oomKills, stats, statsJson } from './stats.ts';
export { subCgroup } from './sub.ts';
