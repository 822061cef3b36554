/** Options as they are shown: in the log, and by `radixkv config print` in the form of a configuration file. */
import { withoutCredentials } from './credentials.js';
import {
  fileKeyOf,
  isPath,
  isSize,
  type OptionTexts,
  SERVE_OPTION_ROWS,
  type ServeOptions,
} from './options.js';

/** Value of an option by its key in a configuration file. */
export type ShownOptions = Readonly<Record<string, string | number | boolean>>;

/**
 * What is in force: what reads back to the same options, but for credentials in addresses, which are hidden. Options
 * without a value are left out.
 *
 * @param texts Sizes are shown as they were written here, else in bytes.
 */
export function shownOptions(options: ServeOptions, texts: OptionTexts = {}): ShownOptions {
  const shown: Record<string, string | number | boolean> = {};
  for (const row of SERVE_OPTION_ROWS) {
    const value = options[row.key];
    if (value === undefined) continue;
    const written = isSize(row) ? texts[row.key] : undefined;
    shown[fileKeyOf(row)] =
      typeof value === 'string' && !isPath(row) ? withoutCredentials(value) : (written ?? value);
  }
  return shown;
}
