/** `npm run docs`: writes docs/tsfile.md below the current folder. */
import { writeFileSync } from 'node:fs';
import { schemaToMarkdown } from './docs.ts';
import schema from './tsfile.schema.json' with { type: 'json' };

writeFileSync('docs/tsfile.md', schemaToMarkdown(schema));
