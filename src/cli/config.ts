/** `radixkv config`: shows the options in force, checks a configuration file, and describes one for editors. */
import { resolve } from 'node:path';
import { stringify } from 'yaml';
import { z } from 'zod';
import { parseConfigOptions, readConfigFile } from '../config/config-file.js';
import { isHidden } from '../config/credentials.js';
import { shownOptions } from '../config/describe.js';
import { configFileSchema } from '../config/file-schema.js';
import { fileKeyOf, SERVE_OPTION_ROWS } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import type { Settings } from './flags.js';
import type { Terminal } from './terminal.js';

export const CONFIG_FORMATS = ['yaml', 'json'] as const;
const FORMAT = z.enum(CONFIG_FORMATS);

/**
 * `radixkv config print`. What it prints can be read back as a configuration file, but for JSON with sources. What has
 * credentials in it is left out of JSON, and stands in a comment of YAML.
 *
 * @throws RadixkvError `invalid_value` for another format
 */
export function runPrintConfig(
  { options, texts, sourceOf }: Settings,
  flags: { readonly format: string; readonly sources?: boolean },
  terminal: Terminal,
): void {
  const format = FORMAT.safeParse(flags.format).data;
  if (format === undefined) {
    const formats = CONFIG_FORMATS.join(', ');
    throw new RadixkvError('invalid_value', `--format must be one of ${formats}, got "${flags.format}"`, {
      param: '--format',
    });
  }
  const shown = shownOptions(options, texts);
  const rows = SERVE_OPTION_ROWS.map((row) => {
    return { name: fileKeyOf(row), value: shown[fileKeyOf(row)], source: sourceOf(row) };
  });
  if (format === 'yaml') {
    for (const row of rows) terminal.print(yamlLine(row, flags.sources === true));
    return;
  }
  const set = rows.filter(({ value }) => value !== undefined && (flags.sources || !isHidden(value)));
  const entries = set.map(({ name, value, source }) => [name, flags.sources ? { value, source } : value]);
  terminal.print(JSON.stringify(Object.fromEntries(entries), null, 2));
}

function yamlLine(
  { name, value, source }: { readonly name: string; readonly value: unknown; readonly source: string },
  withSource: boolean,
): string {
  if (value === undefined) return `# ${name} is not set`;
  const line = stringify({ [name]: value }, { lineWidth: 0 }).trimEnd();
  const isComment = isHidden(value) ? '# ' : '';
  return withSource ? `${isComment}${line} # ${source}` : `${isComment}${line}`;
}

/** `radixkv config check`. @throws RadixkvError `invalid_value`, with the line at fault. */
export function runCheckConfig(file: string, terminal: Terminal): void {
  const entries = readConfigFile(resolve(file));
  parseConfigOptions(entries);
  terminal.print(`${file} is valid; ${entries.size} of ${SERVE_OPTION_ROWS.length} options are set`);
}

/** `radixkv config schema`. */
export function runConfigSchema(terminal: Terminal): void {
  terminal.print(JSON.stringify(configFileSchema(), null, 2));
}
