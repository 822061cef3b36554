/**
 * Typed access to a GGUF file's key/value metadata.
 *
 * A key that is absent is `undefined` from the `optional…` readers and `corrupt_model` from the others; a key of
 * another type is always `corrupt_model`. 64-bit integers come back as numbers.
 */
import { RadixkvError } from '../../errors.js';

export class Metadata {
  readonly #values: ReadonlyMap<string, unknown>;
  readonly #path: string;

  constructor(values: ReadonlyMap<string, unknown>, path: string) {
    this.#values = values;
    this.#path = path;
  }

  optionalNumber(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' && typeof value !== 'bigint') throw this.#wrongType(key, 'a number');
    return Number(value);
  }

  number(key: string): number {
    return this.optionalNumber(key) ?? this.#missing(key);
  }

  optionalString(key: string): string | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === 'string') return value;
    throw this.#wrongType(key, 'a string');
  }

  string(key: string): string {
    return this.optionalString(key) ?? this.#missing(key);
  }

  optionalBoolean(key: string): boolean | undefined {
    const value = this.#values.get(key);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.#wrongType(key, 'a boolean');
  }

  optionalStrings(key: string): readonly string[] | undefined {
    return this.#optionalArray(key, 'strings', (item): item is string => typeof item === 'string');
  }

  strings(key: string): readonly string[] {
    return this.optionalStrings(key) ?? this.#missing(key);
  }

  optionalNumbers(key: string): readonly number[] | undefined {
    return this.#optionalArray(key, 'numbers', (item): item is number => typeof item === 'number');
  }

  #optionalArray<T>(key: string, what: string, accepts: (item: unknown) => item is T): T[] | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every(accepts)) throw this.#wrongType(key, `an array of ${what}`);
    return value;
  }

  #missing(key: string): never {
    throw new RadixkvError('corrupt_model', `${this.#path}: no ${key} in the metadata`);
  }

  #wrongType(key: string, expected: string): RadixkvError {
    return new RadixkvError('corrupt_model', `${this.#path}: ${key} is not ${expected}`);
  }
}
