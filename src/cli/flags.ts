/** Flags of the commands, built from the option table, and their values read back as typed options. */
import { type Command, Option } from 'commander';
import {
  flagOf,
  type OptionTexts,
  parseServeOptions,
  SERVE_OPTION_ROWS,
  type ServeOptions,
} from '../config/options.js';

/** Adds the named options (all when none are named), each with its environment variable and default. */
export function addOptions(command: Command, keys?: readonly (keyof ServeOptions)[]): Command {
  for (const row of SERVE_OPTION_ROWS) {
    if (keys !== undefined && !keys.includes(row.key)) continue;
    const option = new Option(row.flags, row.description).env(row.environment);
    if (option.optional) option.preset('true');
    const text = row.defaultText?.();
    command.addOption(text === undefined ? option : option.default(text, text));
  }
  return command;
}

/**
 * The options of a command; those it does not offer have their defaults.
 *
 * @param keys those that it offers, where it has others of the same names; default: all
 * @throws RadixkvError `invalid_value`, naming the flag or the environment variable that holds the bad value.
 */
export function readOptions(command: Command, keys?: readonly (keyof ServeOptions)[]): ServeOptions {
  const texts = command.opts<OptionTexts>();
  const own = keys === undefined ? texts : Object.fromEntries(keys.map((key) => [key, texts[key]]));
  return parseServeOptions(own, (row) =>
    command.getOptionValueSource(row.key) === 'env' ? row.environment : flagOf(row),
  );
}
