import type { Socket } from 'node:net';
import { ensureAgent } from '../agent/start.ts';
import { builtFile, type Place } from './place.ts';

/** A connection to the project's agent, which is started when there is none. @throws TSV_AGENT */
export const projectAgent = (place: Place, projectDir: string, projectName: string): Promise<Socket> =>
  ensureAgent({ projectDir, projectName, agentFile: builtFile('agent.cjs'), env: place.env });
