/**
 * Who asks: one place that makes a request's credentials into a tenant, a role and a namespace.
 *
 * `identify` stands before every route but the open ones (app.ts); behind it `identityOf(res)` tells who it is, and
 * `requireAdminRole(res)` refuses who may not control the server.
 */
import assert from 'node:assert/strict';
import type { Request, RequestHandler, Response } from 'express';
import { RadixkvError } from '../errors.js';
import type { Budgets } from '../tenants/budgets.js';
import type { KeyRing } from '../tenants/key-ring.js';
import { isLoopbackAddress } from '../tenants/reach.js';
import type { Role } from '../tenants/tenant.js';
import { isOwner, namespaceOf, tenantOf } from './namespace.js';
import { setRateLimitHeaders } from './rate-limit-headers.js';

export interface Identity {
  /** Where its KV and documents are. Nobody else's: see `KeyFile` for tenants, `namespaceOf` where there are no keys. */
  readonly namespace: string;
  /** What names it in statistics: the tenant's name, `tenantOf` where there are no keys. */
  readonly tenant: string;
  readonly role: Role;
  /**
   * To be called with the number of prompt tokens before they are computed.
   * @throws RadixkvError `rate_limit_exceeded`, `prompt_over_rate_limit`
   */
  readonly chargeTokens: (tokens: number) => void;
  /** The namespace of a tenant by its name; where there are no keys, a namespace names itself. */
  readonly ownerNamed: (tenant: string) => string | undefined;
  /** The reverse, for any namespace: one of no tenant names itself. */
  readonly nameOf: (owner: string) => string;
}

/** What the server asks of those who want in. */
export interface Access {
  readonly keys: KeyRing;
  readonly budgets: Budgets;
}

/**
 * The `x-api-key`, or the bearer token where there is none; credentials of another scheme as they are; `''` without any.
 */
export function credentialsOf(req: Request): string {
  const key = req.get('x-api-key')?.trim() ?? '';
  return key === ''
    ? (req
        .get('authorization')
        ?.trim()
        .replace(/^bearer(\s+|$)/i, '') ?? '')
    : key;
}

const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i;

/** From this machine and, lest a web page there asks under a name of its own, to it by name. */
function isLocal(req: Request): boolean {
  return isLoopbackAddress(req.socket.remoteAddress ?? '') && LOOPBACK_NAME.test(req.get('host') ?? '');
}

const FREE: Identity['chargeTokens'] = () => {};

function withoutKeys(req: Request): Identity {
  const namespace = namespaceOf(credentialsOf(req));
  return {
    namespace,
    tenant: tenantOf(namespace),
    role: isLocal(req) ? 'admin' : 'user',
    chargeTokens: FREE,
    ownerNamed: (name) => (isOwner(name) ? name : undefined),
    nameOf: (owner) => owner,
  };
}

/** Charges one request, too. */
function identityFor(req: Request, res: Response, access: Access | undefined): Identity {
  const holder = access?.keys.admit(credentialsOf(req));
  if (access === undefined || holder === undefined) return withoutKeys(req);
  const { budgets, keys } = access;
  const { tenant, role } = holder;
  const charge = (what: 'requests' | 'tokens', amount: number) => {
    try {
      budgets.charge(tenant, what, amount);
    } finally {
      setRateLimitHeaders(res, (each) => budgets.read(tenant, each));
    }
  };
  charge('requests', 1);
  return {
    namespace: tenant.namespace,
    tenant: tenant.name,
    role,
    chargeTokens: (tokens) => charge('tokens', tokens),
    ownerNamed: (name) => keys.tenants.find((each) => each.name === name)?.namespace,
    nameOf: (owner) => keys.tenants.find((each) => each.namespace === owner)?.name ?? owner,
  };
}

/** Of requests under way. */
const identities = new WeakMap<Response, Identity>();

/**
 * Lets nobody past who needs a key and has none, or has used up its requests. Without `access` nobody needs one.
 * @throws RadixkvError `invalid_api_key`, `rate_limit_exceeded`
 */
export function identify(access: Access | undefined): RequestHandler {
  return (req, res, next) => {
    identities.set(res, identityFor(req, res, access));
    next();
  };
}

/** Only behind `identify`. */
export function identityOf(res: Response): Identity {
  const identity = identities.get(res);
  assert(identity !== undefined, 'the route stands behind identify');
  return identity;
}

/** @throws RadixkvError `insufficient_permissions` */
export function requireAdminRole(res: Response): void {
  if (identityOf(res).role === 'admin') return;
  throw new RadixkvError('insufficient_permissions', 'This needs a key of role "admin".');
}
