/**
 * The configuration file: YAML, of which JSON is a part, with the options of `serve` as one flat mapping.
 *
 * A key is a flag without its dashes, a value what one would write behind the flag. Everything else is refused with
 * its line: unknown keys, keys given twice, lists and mappings, keys without a value, aliases and tags.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isMap, isNode, isScalar, LineCounter, type Pair, parseDocument } from 'yaml';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { suggestion } from './nearest-name.js';
import {
  fileKeyOf,
  isPath,
  type OptionRow,
  parseServeOptions,
  SERVE_OPTION_ROWS,
  type ServeOptions,
} from './options.js';

/** A file of all options with comments takes a few kB. */
const FILE_BYTES_MAX = 1024 ** 2;

export interface FileEntry {
  /** Paths are absolute: those in the file are relative to its folder. */
  readonly text: string;
  /** `<file>:<line>` */
  readonly where: string;
}

export type FileEntries = ReadonlyMap<OptionRow['key'], FileEntry>;

/** @throws RadixkvError `invalid_value`, one line, with the file and the line at fault. */
export function readConfigFile(file: string): FileEntries {
  let bytes: Buffer;
  try {
    bytes = readFileSync(file);
  } catch (cause) {
    throw new RadixkvError('invalid_value', `--config can't be read: ${messageOf(cause)}`, {
      param: '--config',
      cause,
    });
  }
  if (bytes.length > FILE_BYTES_MAX) throw refusal(file, `is larger than ${FILE_BYTES_MAX} bytes`);
  return parseConfig(bytes.toString('utf8'), file);
}

/** The options of a file alone. @throws RadixkvError `invalid_value`, with the line at fault. */
export function parseConfigOptions(entries: FileEntries): ServeOptions {
  const texts = Object.fromEntries([...entries].map(([key, { text }]) => [key, text]));
  return parseServeOptions(texts, (row) => {
    const entry = entries.get(row.key);
    return entry === undefined ? fileKeyOf(row) : `${entry.where}: ${fileKeyOf(row)}`;
  });
}

/** @param file How to name it; what paths are relative to. */
export function parseConfig(text: string, file: string): FileEntries {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const whereOf = (offset: number) => `${file}:${lines.linePos(offset).line}`;
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    const [sentence] = problem.message.split(/[;:\n]/);
    throw refusal(whereOf(problem.pos[0]), sentence!);
  }
  const entries = new Map<OptionRow['key'], FileEntry>();
  const { contents } = document;
  if (contents === null) return entries;
  if (!isMap(contents)) throw refusal(file, 'must hold a mapping of options, such as "port: 8080"');
  for (const pair of contents.items) {
    const where = whereOf(offsetOf(pair));
    const row = rowOf(pair, where);
    const value = textOf(pair, row, where);
    entries.set(row.key, {
      text: isPath(row) && value !== '' ? resolve(dirname(file), value) : value,
      where,
    });
  }
  return entries;
}

function refusal(where: string, what: string): RadixkvError {
  return new RadixkvError('invalid_value', `${where}: ${what}`, { param: '--config' });
}

function offsetOf({ key }: Pair): number {
  return isNode(key) ? (key.range?.[0] ?? 0) : 0;
}

function rowOf({ key }: Pair, where: string): OptionRow {
  const name = isScalar(key) ? String(key.value) : undefined;
  const row = SERVE_OPTION_ROWS.find((candidate) => fileKeyOf(candidate) === name);
  if (row !== undefined) return row;
  if (name === undefined) throw refusal(where, 'a key must be the name of an option');
  throw refusal(where, `unknown key "${name}"${suggestion(name, SERVE_OPTION_ROWS.map(fileKeyOf))}`);
}

function textOf({ value }: Pair, row: OptionRow, where: string): string {
  const name = fileKeyOf(row);
  if (value === null || (isScalar(value) && value.value === null))
    throw refusal(where, `${name} has no value; leave the key out for the default`);
  if (!isScalar(value) || value.tag !== undefined)
    throw refusal(where, `${name} must be a text, a number, true or false`);
  // What stands there, so that it is checked like the text of a flag.
  return value.type === 'PLAIN' ? value.source! : String(value.value);
}
