/**
 * Sizes as people write them (`512MiB`, `1.5GB`) and as the program prints them.
 *
 * Decimal units (kB, MB, …) are powers of 1000, binary ones (KiB, MiB, …) powers of 1024; a bare number is bytes.
 * `512M` is refused, because half of the world reads it one way and half the other.
 */
import { RadixkvError } from '../errors.js';

export { bytes as formatBytes } from '#dashboard';

const UNITS: ReadonlyMap<string, number> = new Map([
  ['', 1],
  ['b', 1],
  ...['k', 'm', 'g', 't'].flatMap((letter, index): [string, number][] => [
    [`${letter}b`, 1000 ** (index + 1)],
    [`${letter}ib`, 1024 ** (index + 1)],
  ]),
]);

/**
 * Bytes of a written size, rounded to a whole byte; upper and lower case mean the same.
 *
 * @throws RadixkvError `invalid_value` for anything that is not a size.
 */
export function parseBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : UNITS.get(match[2]!.toLowerCase());
  const bytes = match === null || unit === undefined ? Number.NaN : Math.round(Number(match[1]) * unit);
  if (!Number.isSafeInteger(bytes)) {
    throw new RadixkvError('invalid_value', `must be a size such as 512MiB, 2GiB or 1.5GB, got "${text}"`);
  }
  return bytes;
}
