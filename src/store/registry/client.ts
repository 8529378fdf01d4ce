import type { Descriptor } from '../../model/image.ts';
import { HttpClient } from '../download/http.ts';
import type { RemoteFile } from '../download/remote.ts';
import type { ImageRegistry, RemoteDocument, UploadRequest } from './api.ts';
import { type RegistriesConfig, readRegistriesConfig } from './config.ts';
import { type CredentialSource, userCredentials } from './credentials.ts';
import { type LoginRequest, type LoginResult, login } from './login.ts';
import { blobFile, getManifest, tagsAnywhere } from './pull.ts';
import { Push } from './push.ts';
import type { Reference } from './reference.ts';
import { Session, type SessionOptions } from './session.ts';
import { registryTrust } from './trust.ts';

export interface RegistryOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Ends everything that is under way. */
  readonly signal: AbortSignal;
  /** For people: which mirror did not help, and why. */
  readonly notice?: (text: string) => void;
  /** Absent: registries.yaml of the user. */
  readonly config?: RegistriesConfig;
  /** Absent: what Docker and Podman have been told. */
  readonly credentials?: CredentialSource;
  readonly attempts?: number;
  readonly backoffMs?: number;
  /** Bytes of a piece of what is pushed; absent: all in one. */
  readonly chunkBytes?: number;
  readonly helperTimeoutMs?: number;
  /** Milliseconds of a clock that only goes on. */
  readonly now?: () => number;
}

/** All registries, for the time of one command. */
export class Registry implements ImageRegistry {
  private readonly options: RegistryOptions;
  private readonly session: Session;

  /** Reads the user's registries.yaml; connects to nothing yet. @throws TSV_REGISTRY for mistakes in it */
  constructor(options: RegistryOptions) {
    this.options = options;
    this.session = new Session({
      ...sessionOptions(options),
      credentials: options.credentials ?? userCredentials(options),
    });
  }

  manifest(reference: Reference): Promise<RemoteDocument> {
    return getManifest(this.session, reference);
  }

  blob(reference: Reference, descriptor: Descriptor): RemoteFile {
    return blobFile(this.session, reference, descriptor);
  }

  tags(reference: Reference): AsyncIterable<string> {
    return tagsAnywhere(this.session, reference);
  }

  blobExists(reference: Reference, descriptor: Descriptor): Promise<boolean> {
    return this.push(reference).exists(descriptor, this.options.signal);
  }

  uploadBlob(
    reference: Reference,
    descriptor: Descriptor,
    upload: UploadRequest,
  ): ReturnType<ImageRegistry['uploadBlob']> {
    return this.push(reference).upload(descriptor, upload);
  }

  putManifest(reference: Reference, document: { mediaType: string; bytes: Uint8Array }): Promise<Descriptor> {
    return this.push(reference).manifest(document, this.options.signal);
  }

  /** Ends every connection. */
  close(): Promise<void> {
    return this.session.options.http.close();
  }

  private push(reference: Reference): Push {
    const { chunkBytes } = this.options;
    return new Push(this.session, reference, chunkBytes === undefined ? {} : { chunkBytes });
  }
}

/** {@link login} with connections of its own. */
export async function loginTo(
  request: LoginRequest,
  options: Omit<RegistryOptions, 'credentials'>,
): Promise<LoginResult> {
  const session = sessionOptions(options);
  try {
    return await login(request, {
      ...session,
      ...(options.helperTimeoutMs === undefined ? {} : { helperTimeoutMs: options.helperTimeoutMs }),
    });
  } finally {
    await session.http.close();
  }
}

function sessionOptions(options: Omit<RegistryOptions, 'credentials'>): Omit<SessionOptions, 'credentials'> {
  const { env, signal, notice = () => {}, attempts, backoffMs, now } = options;
  const config = options.config ?? readRegistriesConfig(env);
  return {
    env,
    config,
    http: new HttpClient({ env, trust: registryTrust(config) }),
    signal,
    notice,
    ...(attempts === undefined ? {} : { attempts }),
    ...(backoffMs === undefined ? {} : { backoffMs }),
    ...(now === undefined ? {} : { now }),
  };
}
