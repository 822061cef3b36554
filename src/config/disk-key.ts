/**
 * The key that chunks on disk are encrypted with: 32 bytes as 64 hex digits, from a file or from
 * `RADIXKV_DISK_KEY`. There is no flag for the key itself, since other users can read a command line.
 */
import { RadixkvError } from '../errors.js';
import { readOptionFile } from './option-file.js';

/**
 * The key, or undefined when there is none and nothing is encrypted.
 *
 * @throws RadixkvError `invalid_value` when it is there but not a key; it never quotes it.
 */
export async function readDiskKey(
  file: string | undefined,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Buffer | undefined> {
  const [source, text] =
    file === undefined
      ? ['RADIXKV_DISK_KEY', environment.RADIXKV_DISK_KEY]
      : [`--disk-key-file ${file}`, await readOptionFile('--disk-key-file', file)];
  if (text === undefined) return undefined;
  if (/^[0-9a-f]{64}$/i.test(text.trim())) return Buffer.from(text.trim(), 'hex');
  throw new RadixkvError(
    'invalid_value',
    `${source} must hold 64 hex digits (make one with: openssl rand -hex 32)`,
  );
}
