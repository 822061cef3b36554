/** The commands of keys and tenants: what they write a running server sees with its next request. */
import { existsSync } from 'node:fs';
import { z } from 'zod';
import { formatBytes, parseBytes } from '../config/bytes.js';
import type { ServeOptions } from '../config/options.js';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { idOfApiKey } from '../tenants/api-key.js';
import { KeyFile } from '../tenants/key-file.js';
import { ROLES, type Tenant } from '../tenants/tenant.js';
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

const SWITCH = z.enum(['on', 'off'], { error: 'must be on or off' });
const QUOTA = z.string().transform((text, context) => {
  try {
    return text === UNLIMITED ? undefined : parseBytes(text);
  } catch (error) {
    context.addIssue(messageOf(error));
    return z.NEVER;
  }
});

/** What `tenants set` limits, in words and as a column. */
const LIMITS: readonly {
  readonly words: string;
  readonly column: string;
  readonly text: (limits: Tenant) => string;
}[] = [
  {
    words: 'requests a minute',
    column: 'REQUESTS/MIN',
    text: ({ requestsPerMinute }) => rateText(requestsPerMinute),
  },
  {
    words: 'prompt tokens a minute',
    column: 'TOKENS/MIN',
    text: ({ tokensPerMinute }) => rateText(tokensPerMinute),
  },
  { words: 'host memory', column: 'HOST', text: ({ hostBytes }) => quotaText(hostBytes) },
  { words: 'disk', column: 'DISK', text: ({ diskBytes }) => quotaText(diskBytes) },
  { words: 'shared texts', column: 'SHARED', text: ({ readsShared }) => (readsShared ? 'on' : 'off') },
];

/** Values of the flags of `tenants set`; what is absent stays as it is. */
export interface LimitTexts {
  readonly requestsPerMinute?: string;
  readonly tokensPerMinute?: string;
  readonly hostBytes?: string;
  readonly diskBytes?: string;
  readonly shared?: string;
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
export function runSetTenant(
  name: string,
  flags: LimitTexts,
  { keysFile }: Places,
  terminal: Terminal,
): void {
  const { requestsPerMinute: requests, tokensPerMinute: tokens, hostBytes: host, diskBytes: disk } = flags;
  const { shared } = flags;
  const changes = {
    ...(requests !== undefined && { requestsPerMinute: checked(RATE, requests, '--requests-per-minute') }),
    ...(tokens !== undefined && { tokensPerMinute: checked(RATE, tokens, '--tokens-per-minute') }),
    ...(host !== undefined && { hostBytes: checked(QUOTA, host, '--host-bytes') }),
    ...(disk !== undefined && { diskBytes: checked(QUOTA, disk, '--disk-bytes') }),
    ...(shared !== undefined && { readsShared: checked(SWITCH, shared, '--shared') === 'on' }),
  };
  const tenant = existing(keysFile, (file) => file.tenants()).find((each) => each.name === name);
  if (tenant === undefined) {
    throw new RadixkvError(
      'invalid_value',
      `there is no tenant "${name}"; its first key makes it: radixkv keys create --tenant ${name}`,
    );
  }
  const limits = { ...tenant, ...changes };
  withFile(keysFile, (file) => {
    file.setLimits(name, limits);
    file.setQuotas(name, limits);
    file.setReadsShared(name, limits.readsShared);
  });
  const said = LIMITS.map(({ words, text }) => `${words}: ${text(limits)}`);
  terminal.print(`${name}: ${said.join(', ')}`);
}

/** `radixkv tenants list`. */
export function runListTenants({ keysFile }: Places, isJson: boolean, terminal: Terminal): void {
  const tenants = existing(keysFile, (file) => file.tenants());
  if (isJson) {
    const rows = tenants.map(
      ({ name, createdAtMs, requestsPerMinute, tokensPerMinute, hostBytes, diskBytes, readsShared }) => ({
        name,
        created: dateText(createdAtMs),
        requests_per_minute: requestsPerMinute ?? null,
        tokens_per_minute: tokensPerMinute ?? null,
        host_bytes: hostBytes ?? null,
        disk_bytes: diskBytes ?? null,
        shared: readsShared,
      }),
    );
    terminal.print(JSON.stringify(rows, null, 2));
  } else if (tenants.length === 0) {
    terminal.print('no tenants; the first key of one makes it: radixkv keys create --tenant <name>');
  } else {
    const rows = tenants.map((tenant) => {
      return [tenant.name, dateText(tenant.createdAtMs)!, ...LIMITS.map(({ text }) => text(tenant))];
    });
    for (const line of tableLines([['NAME', 'CREATED', ...LIMITS.map(({ column }) => column)], ...rows]))
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

function quotaText(bytes: number | undefined): string {
  return bytes === undefined ? UNLIMITED : formatBytes(bytes);
}

function rateText(rate: number | undefined): string {
  return rate === undefined ? UNLIMITED : String(rate);
}
