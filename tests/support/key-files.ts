/** A file of keys of its own, as the command line writes it and a server reads it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Access } from '../../src/api/identity.js';
import { Budgets } from '../../src/tenants/budgets.js';
import { KEYS_FILE, KeyFile } from '../../src/tenants/key-file.js';
import { KeyRing } from '../../src/tenants/key-ring.js';
import type { Role } from '../../src/tenants/tenant.js';
import { ManualClock } from './manual-clock.js';

export class TestKeys {
  readonly directory = mkdtempSync(join(tmpdir(), 'radixkv-keys-'));
  readonly path = join(this.directory, KEYS_FILE);
  /** As another process has it. */
  readonly file = KeyFile.open(this.path);
  readonly clock = new ManualClock();
  readonly #rings: KeyRing[] = [];

  create(tenant: string, role: Role = 'user'): string {
    return this.file.createKey({ tenant, role }, this.clock.now());
  }

  ring({ isRequired = false } = {}): KeyRing {
    const ring = KeyRing.open(this.path, { isRequired });
    this.#rings.push(ring);
    return ring;
  }

  access(options: { readonly isRequired?: boolean } = {}): Access {
    return { keys: this.ring(options), budgets: new Budgets(() => this.clock.now()) };
  }

  dispose(): void {
    for (const ring of this.#rings) ring.close();
    this.file.close();
    rmSync(this.directory, { recursive: true });
  }
}

/** Gone after the test. */
export function testKeys(t: { after(hook: () => void): void }): TestKeys {
  const keys = new TestKeys();
  t.after(() => keys.dispose());
  return keys;
}
