import { mountOptionNames } from '../../oci/mount-options.ts';
import { seccompNames } from '../../oci/seccomp-rules.ts';
import { hookKinds, namespaceTypes } from '../../oci/spec.ts';
import { ociVersion } from '../../oci/validate.ts';
import { capabilityNames } from '../../sys/capabilities.ts';
import { libseccompVersion } from '../../sys/libseccomp.ts';

/** What config.json may say: features.md and features-linux.md of the specification. Not what this host can do. */
export function features(version: string): object {
  const sorted = (names: readonly string[]) => [...names].sort();
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: ociVersion,
    hooks: hookKinds,
    mountOptions: mountOptionNames,
    linux: {
      namespaces: sorted(namespaceTypes),
      capabilities: capabilityNames,
      cgroup: { v1: true, v2: true, systemd: false, systemdUser: false, rdma: true },
      seccomp: {
        enabled: true,
        actions: sorted(seccompNames.actions),
        operators: sorted(seccompNames.operators),
        archs: sorted(seccompNames.architectures),
        knownFlags: sorted(seccompNames.flags),
        supportedFlags: sorted(seccompNames.flags),
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: false },
      mountExtensions: { idmap: { enabled: true } },
    },
    annotations: { 'io.github.ts-vm.version': version, ...seccompAnnotation() },
  };
}

/** features-linux.md names it as an example. Without the library no profile can be compiled, and there is nothing to say. */
function seccompAnnotation(): Readonly<Record<string, string>> {
  try {
    return { 'io.github.seccomp.libseccomp.version': libseccompVersion().version };
  } catch {
    return {};
  }
}

export const featuresJson = (version: string): string => `${JSON.stringify(features(version), undefined, 4)}\n`;

/** Docker reads the first line, containerd those with a colon. */
export const versionText = (version: string): string =>
  `tsv oci version ${version}\nspec: ${ociVersion}\nnode: ${process.version}\n`;
