import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { RootfsLayers } from '../../src/oci/create-program.ts';

/** mount(2) takes a page of options, upper and work folder among them; half of it is for these names. */
const namesLimitBytes = 2048;

/**
 * The layers as mount(2) can be told of them. Where their paths are too long together (an image may have 127 layers), short
 * links in a folder of the machine lead to them.
 */
export function lowerLayers(dir: string, layers: readonly string[]): Pick<RootfsLayers, 'lower' | 'folder'> {
  const folder = join(dir, 'lower');
  rmSync(folder, { recursive: true, force: true });
  if (Buffer.byteLength(layers.join(':')) <= namesLimitBytes) return { lower: layers };
  mkdirSync(folder, { mode: 0o700 });
  for (const [index, layer] of layers.entries()) symlinkSync(layer, join(folder, String(index)));
  return { lower: layers.map((_, index) => String(index)), folder };
}
