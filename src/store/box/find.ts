import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { BoxRef } from '../../model/provider.ts';
import { partPaths } from './layout.ts';
import { boxRef, readMetadata } from './metadata.ts';
import type { BoxKind } from './recipe.ts';

/**
 * The built part with exactly this digest: what a machine was made from stays its box, whatever became of the recipe.
 * @throws TSV_UNKNOWN_BOX when the store does not have it (any more)
 */
export function findBuiltBox(wanted: {
  readonly store: string;
  readonly name: string;
  readonly kind: BoxKind;
  readonly digest: string;
}): BoxRef {
  const { boxDir, part } = partPaths(wanted.store, wanted.name, wanted.kind, wanted.digest);
  const dir = join(boxDir, part);
  const metadata = readMetadata(dir);
  if (metadata !== undefined) return boxRef(dir, metadata);
  throw new TsvError(
    'TSV_UNKNOWN_BOX',
    `the store no longer has the box ${wanted.name} that this machine was made from`,
    {
      details: [dir],
      hint: `tsv destroy and tsv up make the machine anew; tsv box build ${wanted.name} builds the box if its recipe is unchanged`,
    },
  );
}
