import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import options from './ajv-options.json' with { type: 'json' };
import schema from './config.schema.json' with { type: 'json' };

/**
 * The schema of config.json as a function. The build replaces this module by the compiled function (build.mjs), so that
 * no command compiles a schema; a unit test holds the schema against its own meta-schema.
 */
export function schemaValidator(): ValidateFunction {
  return new Ajv2020({ ...options, code: { optimize: false } }).compile(schema);
}
