/** Whose part of the cache a request means: its own, or for admins that of another tenant, or of all. */
import type { Response } from 'express';
import type { CacheDesk } from '../control/cache-desk.js';
import { RadixkvError } from '../errors.js';
import { identityOf, requireAdminRole } from './identity.js';
import { saltedNamespace, tenantOf } from './namespace.js';
import { EVERY_TENANT } from './steering-schema.js';

/**
 * The owners that a tenant's name means; without one, who asks.
 *
 * @param owners all that have something cached: where there are no keys, tenants are known by nothing else
 * @throws RadixkvError `insufficient_permissions`, `not_found`
 */
export function ownersMeant(
  res: Response,
  name: string | undefined,
  owners: () => readonly string[],
): readonly string[] {
  const { tenant, namespace, ownerNamed } = identityOf(res);
  if (name === undefined || name === tenant) return [namespace];
  requireAdminRole(res);
  if (name === EVERY_TENANT) return owners();
  const owner = ownerNamed(name) ?? owners().find((each) => tenantOf(each) === name);
  if (owner === undefined) {
    throw new RadixkvError('not_found', `There is no tenant '${name}'.`, { param: 'tenant' });
  }
  return [owner];
}

/**
 * The parts of the cache that a tenant's name and a salt mean: with a salt the one that it sets apart; without one that
 * of who asks without a name, and all parts of who is named.
 *
 * @throws RadixkvError as `ownersMeant`
 */
export function partsMeant(
  res: Response,
  { tenant, salt }: { readonly tenant: string | undefined; readonly salt: string | undefined },
  desk: Pick<CacheDesk, 'owners' | 'partsOf'>,
): readonly string[] {
  const owners = ownersMeant(res, tenant, () => desk.owners());
  if (tenant === undefined || salt !== undefined) return owners.map((owner) => saltedNamespace(owner, salt));
  return owners.flatMap((owner) => desk.partsOf(owner));
}
