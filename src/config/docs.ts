// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the text explains ${VAR}

/** The parts of a JSON Schema that the Tsfile's uses. */
interface Schema {
  readonly title?: string;
  readonly description?: string;
  readonly $ref?: string;
  readonly $defs?: Readonly<Record<string, Schema>>;
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly examples?: readonly unknown[];
  readonly required?: readonly string[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
}

/** docs/tsfile.md from the schema: one section for each kind of map, one row for each key. */
export function schemaToMarkdown(schema: object): string {
  const root = schema as Schema;
  const definitions = Object.entries(root.$defs ?? {}).filter(([, definition]) => definition.properties !== undefined);
  const sections = [
    '<!-- Generated from src/config/tsfile.schema.json by `npm run docs`. Edit the schema. -->',
    '# Tsfile.yaml',
    root.description ?? '',
    'tsv looks for `Tsfile.yaml` (or `Tsfile.yml`) in the current folder and then in the folders above it. The file is YAML 1.2, at most 1 MB. Unknown keys are mistakes, and all mistakes are reported at once: `tsv validate`.',
    '## Top level',
    table(root, root),
    ...definitions.flatMap(([, definition]) => [
      `## ${headingOf(definition)}`,
      definition.description ?? '',
      table(definition, root),
    ]),
    ...formats,
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

const formats = [
  '## Sizes, durations, paths',
  "- A **size** is a number with K, M, G or T (powers of 1024), such as `512M` or `1.5G`, or a number of bytes.\n- A **duration** is a number with ms, s, m or h, such as `500ms`, `2s` or `1m30s`; at most a day.\n- A path **on the host** is relative to the Tsfile's folder; `~` is not replaced. A path **in the machine** is absolute.",
  '## Variables',
  'In values (not in keys) `${VAR}` is replaced by a variable of the environment or, if it is not there, of the file `.env` beside the Tsfile.',
  '| written | gives |\n|---|---|\n| `${VAR}` | the value; a mistake if it is not set |\n| `${VAR:-default}` | the value, or `default` if it is not set or empty |\n| `${VAR:?message}` | the value, or a mistake with this message if it is not set or empty |\n| `$$` | one `$` |',
  'Any other `$` is a `$`. A value is data: nothing in it is replaced again or becomes YAML structure. Without quotes, a value that is a number or `true` or `false` counts as such; in quotes it is always a text. The text of `shell: { inline: … }` is left alone, because `$` belongs to the shell there; give it values through `env`. A `command` or `exec` is replaced in like any other value: write `$$` for a `$` that its shell is to see.',
  '`.env` holds `NAME=value` lines; `export` before them and `#` comments are allowed. \'Single quotes\' keep everything; "double quotes" know `\\n`, `\\t`, `\\r`, `\\"`, `\\\\` and `\\$`.',
];

const headingOf = (definition: Schema): string =>
  (definition.title ?? '').replace(/^./, (first) => first.toUpperCase());

function table(owner: Schema, root: Schema): string {
  const required = new Set(owner.required);
  const rows = Object.entries(owner.properties ?? {}).map(([key, property]) => {
    const target = resolve(property, root);
    const notes = [
      property.description ?? target.description ?? '',
      property.default === undefined ? '' : `Default: ${code(property.default)}.`,
      examplesOf(property.examples ?? target.examples),
    ];
    const text = notes.filter((note) => note !== '').join(' ');
    return `| \`${key}\`${required.has(key) ? ' (needed)' : ''} | ${typeOf(property, root)} | ${text.replaceAll('|', '\\|')} |`;
  });
  return ['| key | value | meaning |', '|---|---|---|', ...rows].join('\n');
}

function resolve(schema: Schema, root: Schema): Schema {
  const name = schema.$ref?.replace('#/$defs/', '');
  return name === undefined ? schema : (root.$defs?.[name] ?? schema);
}

/** Definitions that are not maps, as the reader calls them. */
const wordsForFormats: Readonly<Record<string, string>> = {
  size: 'size',
  duration: 'duration',
  guestPath: 'path in the machine',
  command: 'list of words, or text',
  entrypoint: 'list of words, or text',
  args: 'list of words',
  env: 'map of names to texts',
  devices: 'list of devices',
  sysctls: 'map of names to texts or whole numbers',
  tmpfs: 'list of folders',
  limit: 'whole number or `unlimited`',
  user: 'name or number',
  signal: 'name or number',
  restart: '`no`, `on-failure`, `on-failure:N`, `always`, `unless-stopped`',
};

function typeOf(schema: Schema, root: Schema): string {
  const name = schema.$ref?.replace('#/$defs/', '') ?? '';
  const format = wordsForFormats[name];
  if (format !== undefined) return format;
  const target = resolve(schema, root);
  if (target.enum !== undefined) return target.enum.map(code).join(', ');
  const types = [target.type ?? []].flat().filter((type) => type !== 'null');
  const words = types.map((type) => {
    if (type === 'array') return `list${linkTo(target.items, root)}`;
    if (type !== 'object')
      return { string: 'text', integer: 'whole number', number: 'number', boolean: '`true`, `false`' }[type] ?? type;
    if (target.properties !== undefined) return `[map](#${anchorOf(target)})`;
    return `map of names to ${typeof target.additionalProperties === 'object' ? typeOf(target.additionalProperties, root) : 'values'}`;
  });
  return words.join(' or ');
}

function linkTo(items: Schema | undefined, root: Schema): string {
  if (items === undefined) return '';
  const target = resolve(items, root);
  return target.properties === undefined ? ' of names' : ` of [${target.title ?? ''}](#${anchorOf(target)})`;
}

const anchorOf = (definition: Schema): string => (definition.title ?? '').toLowerCase().replaceAll(' ', '-');

function examplesOf(examples: readonly unknown[] | undefined): string {
  return examples === undefined ? '' : `For example ${examples.map(code).join(' or ')}.`;
}

/** As it stands in a Tsfile, in YAML's flow style. */
const code = (value: unknown): string => `\`${flow(value)}\``;

function flow(value: unknown): string {
  if (Array.isArray(value))
    return `[${value.map((item) => (typeof item === 'string' ? JSON.stringify(item) : flow(item))).join(', ')}]`;
  if (typeof value === 'object' && value !== null)
    return `{ ${Object.entries(value)
      .map(([key, item]) => `${key}: ${flow(item)}`)
      .join(', ')} }`;
  return String(value);
}
