/** Files that an option names. */
import { readFile } from 'node:fs/promises';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';

/** @throws RadixkvError `invalid_value`, naming the option. */
export async function readOptionFile(flag: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new RadixkvError('invalid_value', `${flag} can't be read: ${messageOf(cause)}`, {
      param: flag,
      cause,
    });
  }
}
