/** The commands of keys and tenants: what they write a running server sees with its next request. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import type { ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import { idOfApiKey } from '../tenants/api-key.js';
import { KeyFile } from '../tenants/key-file.js';
import { ROLES } from '../tenants/tenant.js';
import { tableLines } from './table.js';
import type { Terminal } from './terminal.js';

type Places = Pick<ServeOptions, 'keysFile'>;

const RATE_MAX = 1_000_000_000;

/** What a limit is lifted with. */
const UNLIMITED = 'none';

const NAME = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    'must be up to 64 letters, digits, ".", "_" and "-", the first a letter or digit',
  );
const ROLE = z.enum(ROLES, { error: `must be one of ${ROLES.join(', ')}` });
const RATE = z
  .string()
  .regex(/^(none|[1-9]\d{0,9})$/, 'must be a whole number from 1, or none')
  .transform((text) => (text === UNLIMITED ? undefined : Number(text)))
  .refine(
    (rate) => rate === undefined || rate <= RATE_MAX,
    `must be at most ${RATE_MAX.toLocaleString('en')}`,
  );

/** Values of the flags of `tenants set`; what is absent stays as it is. */
export interface RateTexts {
  readonly requestsPerMinute?: string;
  readonly tokensPerMinute?: string;
}

/** `radixkv keys create`: the key alone goes to stdout. */
export function runCreateKey(
  { keysFile }: Places,
  flags: { readonly tenant: string; readonly role: string },
  terminal: Terminal,
): void {
  const tenant = checked(NAME, flags.tenant, '--tenant');
  const role = checked(ROLE, flags.role, '--role');
  const text = withFile(keysFile, (file) => file.createKey({ tenant, role }, Date.now()));
  terminal.print(text);
  terminal.note(`key ${idOfApiKey(text)} of ${tenant}, role ${role}; it is not shown again`);
}

/** `radixkv keys list`. */
export function runListKeys({ keysFile }: Places, isJson: boolean, terminal: Terminal): void {
  const keys = existing(keysFile, (file) => file.keys());
  if (isJson) {
    const rows = keys.map(({ id, tenant, role, createdAtMs, revokedAtMs }) => {
      return { id, tenant, role, created: dateText(createdAtMs), revoked: dateText(revokedAtMs) ?? null };
    });
    terminal.print(JSON.stringify(rows, null, 2));
  } else if (keys.length === 0) {
    terminal.print('no keys; make one with: radixkv keys create --tenant <name>');
  } else {
    const rows = keys.map(({ id, tenant, role, createdAtMs, revokedAtMs }) => {
      return [id, tenant, role, dateText(createdAtMs)!, dateText(revokedAtMs) ?? ''];
    });
    for (const line of tableLines([['ID', 'TENANT', 'ROLE', 'CREATED', 'REVOKED'], ...rows]))
      terminal.print(line);
  }
}

/** `radixkv keys revoke`. @throws RadixkvError `invalid_value` when there is no such key any more. */
export function runRevokeKey(id: string, { keysFile }: Places, terminal: Terminal): void {
  const isRevoked = existsSync(keysFile) && withFile(keysFile, (file) => file.revokeKey(id, Date.now()));
  if (!isRevoked) {
    // What was given may be a whole key, which must not reach a log.
    throw new RadixkvError(
      'invalid_value',
      `there is no valid key of the id "${idOfApiKey(id)}"; see: radixkv keys list`,
    );
  }
  terminal.print(`revoked ${id}`);
}

/** `radixkv tenants set`. @throws RadixkvError `invalid_value` for a bad limit, or when there is no such tenant. */
export function runSetTenant(name: string, flags: RateTexts, { keysFile }: Places, terminal: Terminal): void {
  const { requestsPerMinute, tokensPerMinute } = flags;
  const changes = {
    ...(requestsPerMinute !== undefined && {
      requestsPerMinute: checked(RATE, requestsPerMinute, '--requests-per-minute'),
    }),
    ...(tokensPerMinute !== undefined && {
      tokensPerMinute: checked(RATE, tokensPerMinute, '--tokens-per-minute'),
    }),
  };
  const tenant = existing(keysFile, (file) => file.tenants()).find((each) => each.name === name);
  if (tenant === undefined) {
    throw new RadixkvError(
      'invalid_value',
      `there is no tenant "${name}"; its first key makes it: radixkv keys create --tenant ${name}`,
    );
  }
  const limits = { ...tenant, ...changes };
  withFile(keysFile, (file) => file.setLimits(name, limits));
  const [requests, tokens] = [rateText(limits.requestsPerMinute), rateText(limits.tokensPerMinute)];
  terminal.print(`${name}: requests a minute: ${requests}, prompt tokens a minute: ${tokens}`);
}

/** `radixkv tenants list`. */
export function runListTenants({ keysFile }: Places, isJson: boolean, terminal: Terminal): void {
  const tenants = existing(keysFile, (file) => file.tenants());
  if (isJson) {
    const rows = tenants.map(({ name, createdAtMs, requestsPerMinute, tokensPerMinute }) => ({
      name,
      created: dateText(createdAtMs),
      requests_per_minute: requestsPerMinute ?? null,
      tokens_per_minute: tokensPerMinute ?? null,
    }));
    terminal.print(JSON.stringify(rows, null, 2));
  } else if (tenants.length === 0) {
    terminal.print('no tenants; the first key of one makes it: radixkv keys create --tenant <name>');
  } else {
    const rows = tenants.map(({ name, createdAtMs, requestsPerMinute, tokensPerMinute }) => {
      return [name, dateText(createdAtMs)!, rateText(requestsPerMinute), rateText(tokensPerMinute)];
    });
    for (const line of tableLines([['NAME', 'CREATED', 'REQUESTS/MIN', 'TOKENS/MIN'], ...rows]))
      terminal.print(line);
  }
}

function withFile<T>(keysFile: string, work: (file: KeyFile) => T): T {
  const file = KeyFile.open(keysFile);
  try {
    return work(file);
  } finally {
    file.close();
  }
}

/** Makes no file. */
function existing<T>(keysFile: string, read: (file: KeyFile) => T[]): T[] {
  return existsSync(keysFile) ? withFile(keysFile, read) : [];
}

function checked<T extends z.ZodType>(schema: T, text: string, flag: string): z.output<T> {
  const parsed = schema.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new RadixkvError('invalid_value', `${flag} ${parsed.error.issues[0]!.message}, got "${text}"`, {
    param: flag,
  });
}

function dateText(ms: number | undefined): string | undefined {
  return ms === undefined ? undefined : new Date(ms).toISOString();
}

function rateText(rate: number | undefined): string {
  return rate === undefined ? UNLIMITED : String(rate);
}
