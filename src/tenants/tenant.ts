/** Who uses a server with keys: tenants, their keys, and what they may do. */

/** An `admin` may also control the server itself. */
export const ROLES = ['user', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** Undefined: as much as there is. */
export interface RateLimits {
  readonly requestsPerMinute: number | undefined;
  /** Prompt tokens. */
  readonly tokensPerMinute: number | undefined;
}

/** Bytes of KV in each tier; undefined: as many as there are. */
export interface ByteQuotas {
  readonly hostBytes: number | undefined;
  readonly diskBytes: number | undefined;
}

export interface Tenant extends RateLimits, ByteQuotas {
  readonly name: string;
  /** Whether it reads the KV of public texts. */
  readonly readsShared: boolean;
  /** 64 hex digits that neither the name nor a key tells: where its KV and documents are. */
  readonly namespace: string;
  readonly createdAtMs: number;
}

/** A key, without what it is made of. */
export interface KeyRecord {
  /** Its first characters. */
  readonly id: string;
  readonly tenant: string;
  readonly role: Role;
  readonly createdAtMs: number;
  readonly revokedAtMs: number | undefined;
}

/** Who holds a key that is valid. */
export interface Holder {
  readonly tenant: Tenant;
  readonly role: Role;
}

/** What tenants may take in each tier, by namespace. */
export function quotasOf(
  tenants: readonly Tenant[],
): Readonly<Record<'host' | 'disk', ReadonlyMap<string, number>>> {
  const of = (bytes: (tenant: Tenant) => number | undefined) =>
    new Map(
      tenants.flatMap((tenant) => {
        const quota = bytes(tenant);
        return quota === undefined ? [] : [[tenant.namespace, quota] as const];
      }),
    );
  return { host: of(({ hostBytes }) => hostBytes), disk: of(({ diskBytes }) => diskBytes) };
}
