/**
 * Flags of the commands, built from the option table, and their values read back as typed options: from the flag, else
 * the environment, else the configuration file, else the default.
 */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { type FileEntries, readConfigFile } from '../config/config-file.js';
import { isServiceLink, refuseUnknownVariables } from '../config/environment.js';
import {
  fileKeyOf,
  flagOf,
  type OptionRow,
  type OptionTexts,
  parseServeOptions,
  SERVE_OPTION_ROWS,
  type ServeOptions,
} from '../config/options.js';
import { RadixkvError } from '../errors.js';

/** Of every command that has options of `serve`. */
export const CONFIG_FLAGS = '--config <path>';
const CONFIG_VARIABLE = 'RADIXKV_CONFIG';

/** Adds the named options (all when none are named), each with its environment variable and default. */
export function addOptions(command: Command, keys?: readonly (keyof ServeOptions)[]): Command {
  command.addOption(
    new Option(CONFIG_FLAGS, 'YAML or JSON file with options (default: none)').env(CONFIG_VARIABLE),
  );
  for (const row of SERVE_OPTION_ROWS) {
    if (keys !== undefined && !keys.includes(row.key)) continue;
    const option = new Option(row.flags, row.description).env(row.environment);
    if (option.optional) option.preset('true');
    const text = row.defaultText?.();
    command.addOption(text === undefined ? option : option.default(text, text));
  }
  return command;
}

/** The options in force, and where they are from. */
export interface Settings {
  readonly options: ServeOptions;
  readonly texts: OptionTexts;
  /** `flag --port`, `environment RADIXKV_PORT`, `<file>:<line>` or `default`. */
  readonly sourceOf: (row: OptionRow) => string;
}

/**
 * The settings of a command; options that neither it nor the file has have their defaults.
 *
 * @throws RadixkvError `invalid_value`, naming the flag, the variable or the line of the file that is wrong; also for
 * variables of ours and keys of the file that mean nothing.
 */
export function readSettings(
  command: Command,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  keys?: readonly OptionRow['key'][],
): Settings {
  refuseUnknownVariables(environment);
  const file = readFileOf(command);
  const texts: Partial<Record<OptionRow['key'], string>> = {};
  for (const row of SERVE_OPTION_ROWS) {
    const text =
      (keys?.includes(row.key) ?? true) && isGiven(command, row)
        ? command.getOptionValue(row.key)
        : (file?.get(row.key)?.text ?? row.defaultText?.());
    if (text !== undefined) texts[row.key] = text;
  }
  const options = parseServeOptions(texts, (row) => blameOf(command, row, file));
  return { options, texts, sourceOf: (row) => sourceOf(command, row, file) };
}

/**
 * The options of a command.
 * @param keys those that it offers, where it has others of the same names; default: all
 * @throws RadixkvError as `readSettings` does.
 */
export function readOptions(command: Command, keys?: readonly OptionRow['key'][]): ServeOptions {
  return readSettings(command, process.env, keys).options;
}

function readFileOf(command: Command): FileEntries | undefined {
  const { config } = command.opts<{ config?: string }>();
  if (config === undefined) return undefined;
  if (config === '')
    throw new RadixkvError('invalid_value', '--config must not be empty', { param: '--config' });
  return readConfigFile(resolve(config));
}

/** By a flag, or by a variable that is meant for it. */
function isGiven(command: Command, row: OptionRow): boolean {
  const source = command.getOptionValueSource(row.key);
  if (source === 'env') return !isServiceLink(row.environment, command.getOptionValue(row.key));
  return source === 'cli';
}

function sourceOf(command: Command, row: OptionRow, file: FileEntries | undefined): string {
  if (!isGiven(command, row)) return file?.get(row.key)?.where ?? 'default';
  const isVariable = command.getOptionValueSource(row.key) === 'env';
  return isVariable ? `environment ${row.environment}` : `flag ${flagOf(row)}`;
}

function blameOf(command: Command, row: OptionRow, file: FileEntries | undefined): string {
  if (isGiven(command, row))
    return command.getOptionValueSource(row.key) === 'env' ? row.environment : flagOf(row);
  const entry = file?.get(row.key);
  return entry === undefined ? flagOf(row) : `${entry.where}: ${fileKeyOf(row)}`;
}
