/**
 * The keys as a running server sees them: in memory, read again when the file changed.
 *
 * Invariant: once a key was made, no request passes without a valid one, even when all are revoked.
 */
import { timingSafeEqual } from 'node:crypto';
import { RadixkvError } from '../errors.js';
import { hashOfApiKey, idOfApiKey } from './api-key.js';
import { KeyFile, type StoredKey } from './key-file.js';
import type { Holder, Tenant } from './tenant.js';

interface Entry {
  readonly key: StoredKey;
  readonly holder: Holder;
}

export class KeyRing {
  readonly #file: KeyFile;
  readonly #isAlwaysRequired: boolean;
  /** Those that are not revoked, by id. */
  #entries: ReadonlyMap<string, Entry> = new Map();
  #tenants: readonly Tenant[] = [];
  #wasUsed = false;
  #version: number | undefined;
  #onTenants: (tenants: readonly Tenant[]) => void = () => {};

  private constructor(file: KeyFile, isAlwaysRequired: boolean) {
    this.#file = file;
    this.#isAlwaysRequired = isAlwaysRequired;
    this.#refresh();
  }

  /**
   * `isRequired`: a key is needed even while there is none.
   * @throws RadixkvError `invalid_value` when the file can't be used
   */
  static open(path: string, { isRequired }: { readonly isRequired: boolean }): KeyRing {
    return new KeyRing(KeyFile.open(path), isRequired);
  }

  /**
   * Who presents these credentials; undefined where nobody needs any.
   * @throws RadixkvError `invalid_api_key`
   */
  admit(credentials: string): Holder | undefined {
    this.#refresh();
    if (!this.#isAlwaysRequired && !this.#wasUsed) return undefined;
    if (credentials === '') {
      throw new RadixkvError(
        'invalid_api_key',
        'An API key is needed: send it as "Authorization: Bearer <key>".',
      );
    }
    const hash = hashOfApiKey(credentials);
    const entry = this.#entries.get(idOfApiKey(credentials));
    if (entry !== undefined && timingSafeEqual(entry.key.hash, hash)) return entry.holder;
    throw new RadixkvError('invalid_api_key', 'The API key is not known, or was revoked.');
  }

  /** Tells what tenants there are, now and whenever that was seen to have changed. */
  watch(onTenants: (tenants: readonly Tenant[]) => void): void {
    this.#onTenants = onTenants;
    onTenants(this.#tenants);
  }

  /** By name, as of the last `admit`. */
  get tenants(): readonly Tenant[] {
    return this.#tenants;
  }

  close(): void {
    this.#file.close();
  }

  #refresh(): void {
    const version = this.#file.version;
    if (version === this.#version) return;
    const keys = this.#file.keys();
    this.#tenants = this.#file.tenants();
    const tenants = new Map(this.#tenants.map((tenant) => [tenant.name, tenant]));
    const valid = keys.filter(({ revokedAtMs }) => revokedAtMs === undefined);
    const holderOf = ({ tenant, role }: StoredKey): Holder => ({ tenant: tenants.get(tenant)!, role });
    this.#entries = new Map(valid.map((key) => [key.id, { key, holder: holderOf(key) }]));
    this.#wasUsed = keys.length > 0;
    this.#version = version;
    this.#onTenants(this.#tenants);
  }
}
