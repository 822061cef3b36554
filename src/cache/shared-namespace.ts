/**
 * Where the KV of public texts is: beginnings of prompts that an admin declared, for all tenants that want it.
 *
 * Only the server writes here, computing what was declared; a tenant that reads it copies the rows into its own run, and
 * all that it computes behind them, and its copy of them, goes to its own namespace. Only whole chunks are read, and
 * never a run: a run could be taken over by who reads it.
 */

/** Of no tenant, and not to be named in an archive: see namespace-owner.ts and archive-label.ts. */
export const SHARED_NAMESPACE = 'shared:';
