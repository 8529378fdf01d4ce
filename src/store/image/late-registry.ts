import type { Descriptor } from '../../model/image.ts';
import type { RemoteFile } from '../download/remote.ts';
import type { ImageRegistry } from '../registry/api.ts';
import type { Registry } from '../registry/client.ts';
import { familiar, type Reference } from '../registry/reference.ts';

export interface RegistryUse {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Which mirror did not help, and why. */
  notice?(text: string): void;
}

/** The registries for one piece of work. The client is loaded when the first is asked; then `close` ends its connections. */
export class LateRegistry {
  readonly #use: RegistryUse;
  #opened: Promise<Registry> | undefined;

  constructor(use: RegistryUse) {
    this.#use = use;
  }

  /** @throws TSV_REGISTRY for mistakes in the user's registries.yaml */
  open(): Promise<ImageRegistry> {
    this.#opened ??= import('../registry/client.ts').then(({ Registry }) => new Registry(this.#use));
    return this.#opened;
  }

  blob(reference: Reference, descriptor: Descriptor): RemoteFile {
    return {
      name: `${familiar(reference)}: ${descriptor.digest.slice(0, 19)}`,
      open: async (request) => (await this.open()).blob(reference, descriptor).open(request),
    };
  }

  async close(): Promise<void> {
    const opened = await this.#opened?.catch(() => undefined);
    await opened?.close();
  }
}

/** Runs `work` with registries, and ends their connections afterwards. */
export async function withRegistry<T>(use: RegistryUse, work: (registry: LateRegistry) => Promise<T>): Promise<T> {
  const registry = new LateRegistry(use);
  try {
    return await work(registry);
  } finally {
    await registry.close();
  }
}
