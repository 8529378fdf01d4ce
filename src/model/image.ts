/**
 * What an OCI image is made of: image-spec 1.1 (manifest.md, image-index.md, config.md, descriptor.md) and the same
 * things in Docker's words (image manifest version 2, schema 2). Everything here has been checked: see src/store/image.
 */

/** `sha256:` or `sha512:` and its lower-case hex; nothing else is a digest here, so it is safe in a path. */
export type Digest = `sha256:${string}` | `sha512:${string}`;

/** image-spec, descriptor.md: the registered algorithms with the lengths of their hex. */
const digestForm = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/;

/** Whether `value` is a digest, and so nothing that could lead out of a folder. */
export const isDigest = (value: unknown): value is Digest => typeof value === 'string' && digestForm.test(value);

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  /** Bytes. */
  readonly size: number;
  readonly platform?: Platform;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** The one manifest of a platform, out of an index if need be. */
export interface Manifest {
  readonly mediaType: string;
  readonly config: Descriptor;
  /** From the lowest up. */
  readonly layers: readonly Descriptor[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What an image says about the container that is made from it (config.md, `config`). */
export interface ContainerDefaults {
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  /** `NAME=value`, in order. */
  readonly env: readonly string[];
  /** As in USER of a Dockerfile: `name`, `uid`, `name:group`, `uid:gid`. */
  readonly user?: string;
  readonly workdir?: string;
  /** `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. */
  readonly stopSignal?: string;
  /** `80/tcp` */
  readonly exposedPorts: readonly string[];
  /** Absolute paths. */
  readonly volumes: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** Docker's HEALTHCHECK: `['NONE']`, `['CMD', …argv]` or `['CMD-SHELL', text]`. */
  readonly healthcheck?: {
    readonly test: readonly string[];
    readonly everyMs?: number;
    readonly timeoutMs?: number;
    readonly startPeriodMs?: number;
    readonly retries?: number;
  };
}

export interface ImageConfig {
  readonly platform: Platform;
  readonly defaults: ContainerDefaults;
  /** Digests of the layers' tar streams without compression, from the lowest up; as many as the manifest has layers. */
  readonly diffIds: readonly Digest[];
  /** RFC 3339, as the image has it. */
  readonly created?: string;
  readonly author?: string;
  readonly history: readonly {
    readonly created?: string;
    readonly createdBy?: string;
    readonly comment?: string;
    readonly emptyLayer: boolean;
  }[];
}

/** An image in the store, whole: its blobs are checked and its layers unpacked. */
export interface StoredImage {
  /** As somebody would write it, in full: `docker.io/library/nginx:1.27`. */
  readonly reference: string;
  /** Of the manifest of this platform. */
  readonly digest: Digest;
  readonly config: ImageConfig;
  /** Absolute paths of the unpacked layers, the uppermost first, as overlayfs takes them. */
  readonly layers: readonly string[];
}
