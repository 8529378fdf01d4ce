import { readFileSync } from 'node:fs';
import { TsvError } from '../../src/model/errors.ts';
import type { OciSeccomp, OciSyscallRule } from '../../src/oci/spec.ts';

/** A rule in Docker's form of a profile: it may depend on what the container has. */
interface DockerRule extends Omit<OciSyscallRule, 'names'> {
  readonly name?: string;
  readonly names?: readonly string[];
  readonly includes?: Conditions | null;
  readonly excludes?: Conditions | null;
}

interface Conditions {
  readonly caps?: readonly string[] | null;
  readonly arches?: readonly string[] | null;
  readonly minKernel?: string | null;
}

interface Profile extends Omit<OciSeccomp, 'syscalls'> {
  readonly archMap?: readonly { readonly architecture: string; readonly subArchitectures?: readonly string[] }[];
  readonly syscalls?: readonly DockerRule[] | null;
}

/**
 * Reads a seccomp profile, in the form of the OCI specification or of Docker, for a container with these capabilities.
 * @throws TSV_SECCOMP when it is not there or no profile
 */
export function readSeccompProfile(path: string, capabilities: readonly string[], kernel: string): OciSeccomp {
  let profile: Profile;
  try {
    profile = JSON.parse(readFileSync(path, 'utf8')) as Profile;
  } catch (error) {
    throw new TsvError('TSV_SECCOMP', `${path}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  if (typeof profile?.defaultAction !== 'string') {
    throw new TsvError('TSV_SECCOMP', `${path}: no profile: it has no defaultAction`);
  }
  const { archMap, syscalls, ...rest } = profile;
  // Go writes null for what is not there.
  const isNewEnough = (minKernel: string) => compareKernels(kernel, minKernel) >= 0;
  const meets = (conditions: Conditions | null | undefined): boolean => {
    const { caps, arches, minKernel } = conditions ?? {};
    return (
      (caps ?? []).every((name) => capabilities.includes(name)) &&
      ((arches ?? []).length === 0 || (arches ?? []).some((arch) => ['amd64', 'x86', 'x32'].includes(arch))) &&
      (minKernel == null || minKernel === '' || isNewEnough(minKernel))
    );
  };
  const touches = (conditions: Conditions | null | undefined): boolean => {
    const { caps, arches, minKernel } = conditions ?? {};
    return (
      (caps ?? []).some((name) => capabilities.includes(name)) ||
      (arches ?? []).includes('amd64') ||
      (minKernel != null && minKernel !== '' && isNewEnough(minKernel))
    );
  };
  const native = archMap?.find(({ architecture }) => architecture === 'SCMP_ARCH_X86_64');
  return {
    ...rest,
    ...(native === undefined ? {} : { architectures: [native.architecture, ...(native.subArchitectures ?? [])] }),
    syscalls: (syscalls ?? [])
      .filter(({ includes, excludes }) => meets(includes) && !touches(excludes))
      .map(({ name, names, action, errnoRet, args }) => ({
        names: names ?? (name === undefined ? [] : [name]),
        action,
        ...(errnoRet === undefined ? {} : { errnoRet }),
        ...(args === undefined || args === null ? {} : { args }),
      })),
  };
}

/** `6.1.0-18-amd64` and `4.8` by their first two numbers. */
function compareKernels(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split('.').map((part) => Number.parseInt(part, 10));
  const [bMajor = 0, bMinor = 0] = b.split('.').map((part) => Number.parseInt(part, 10));
  return aMajor - bMajor || aMinor - bMinor;
}
