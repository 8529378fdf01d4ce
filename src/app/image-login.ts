import { loginTo } from '../store/registry/client.ts';
import { type LoginRequest, type LoginResult, type LogoutResult, logout as leave } from '../store/registry/login.ts';
import type { Place } from './place.ts';

/** Tries credentials and keeps them where Docker does. @throws TSV_REGISTRY_LOGIN, TSV_REGISTRY, TSV_STORE */
export const login = (place: Place, request: LoginRequest, signal: AbortSignal): Promise<LoginResult> =>
  loginTo(request, { env: place.env, signal });

export const logout = (place: Place, registry: string, signal: AbortSignal): Promise<LogoutResult> =>
  leave(registry, { env: place.env, signal });
