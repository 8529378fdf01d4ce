// biome-ignore-all lint/suspicious/noTemplateCurlyInString: hints show ${…}
import { type Document, Lexer, type ParsedNode, parseDocument, type YAMLError } from 'yaml';
import type { Report, Source } from './diagnostic.ts';

/** What a text may be before it is parsed: the parser's time grows faster than these. */
const tokenLimit = 100_000;
const bracketLimit = 100;
/** A shorter text cannot hold enough to take long. */
const harmlessLength = 4096;

/** Parses YAML 1.2 (core schema, one document). Undefined after a mistake, as what follows one cannot be trusted. */
export function parseYaml(source: Source, report: Report): Document.Parsed<ParsedNode> | undefined {
  const whole = { start: 0, end: 1 };
  const refusal = tooMuch(source.text);
  if (refusal !== undefined) {
    report(whole, refusal);
    return undefined;
  }
  let document: Document.Parsed<ParsedNode>;
  try {
    // The library's own test for duplicate keys takes quadratic time; the tree's converter does it.
    document = parseDocument(source.text, {
      version: '1.2',
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: 'error', // `silent` would hide a second document,
    });
  } catch (error) {
    // The parser is meant to collect its errors; a text that makes it throw is refused all the same.
    report(whole, `the file cannot be read as YAML: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
  if (document.directives.yaml.explicit && document.directives.yaml.version !== '1.2') {
    report(whole, `YAML ${document.directives.yaml.version} is not supported`, 'remove the %YAML line');
    return undefined;
  }
  const problems = [...document.errors, ...document.warnings];
  if (problems.length === 0) return document;
  reportProblems(problems, source, report);
  return undefined;
}

/** Why a text is not parsed at all. The lexer alone takes linear time and knows which brackets are quoted. */
function tooMuch(text: string): string | undefined {
  if (text.length <= harmlessLength) return undefined;
  let tokens = 0;
  let depth = 0;
  for (const token of new Lexer().lex(text)) {
    tokens += 1;
    if (token === '[' || token === '{') depth += 1;
    else if (token === ']' || token === '}') depth -= 1;
    if (depth > bracketLimit) return 'the file is nested too deeply';
    if (tokens > tokenLimit) return `the file consists of more than ${tokenLimit} words and signs`;
  }
  return undefined;
}

/** One mistake per line: the others are mostly its consequences. */
function reportProblems(problems: readonly YAMLError[], source: Source, report: Report): void {
  const lines = new Set<number>();
  for (const problem of problems) {
    const line = source.lineAt(problem.pos[0]);
    if (lines.has(line)) continue;
    lines.add(line);
    const start = problem.code === 'BAD_INDENT' ? firstSign(source.text, problem.pos[0]) : problem.pos[0];
    const [message, hint] = explain(problem);
    // `${` without quotes between brackets starts a map there.
    const variable = problem.code !== 'TAB_AS_INDENT' && /[\s[{,]\$\{/.test(source.line(line).slice(0, 1000));
    report({ start, end: Math.max(problem.pos[1], start + 1) }, message, variable ? 'put ${…} into quotes' : hint);
  }
}

function firstSign(text: string, from: number): number {
  let at = from;
  while (text[at] === ' ') at += 1;
  return at;
}

function explain({ code, message }: YAMLError): [message: string, hint?: string] {
  switch (code) {
    case 'TAB_AS_INDENT':
      return ['a tab cannot be used to indent', 'use spaces'];
    case 'BAD_INDENT':
    case 'BAD_COLLECTION_TYPE':
      return ['this line is not indented like its neighbours', 'the keys of one map start in one column'];
    case 'MISSING_CHAR':
      return [
        /closing .*quote/.test(message) ? 'this quote is never closed' : `something is missing: ${lowerFirst(message)}`,
      ];
    case 'BLOCK_AS_IMPLICIT_KEY':
    case 'MULTILINE_IMPLICIT_KEY':
      return ['a second `key:` on the way to a value', 'put a text that has a colon in it into quotes'];
    case 'BAD_SCALAR_START':
      return ['a text cannot start with this character', 'put it into quotes'];
    case 'BAD_DQ_ESCAPE':
      return ['this \\ sequence means nothing between double quotes', 'use single quotes, or write \\\\'];
    case 'MULTIPLE_DOCS':
      return ['a second document starts here; a Tsfile is one'];
    case 'TAG_RESOLVE_FAILED':
      return ['tags (!name) mean nothing in a Tsfile', 'put a text that starts with ! into quotes'];
    case 'RESOURCE_EXHAUSTION':
      return ['the file is nested too deeply'];
    default:
      return [`not valid YAML: ${lowerFirst(message)}`];
  }
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
