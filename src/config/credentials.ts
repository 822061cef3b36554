/** Addresses with what lets one in: it must not reach a log, an error or a listing. */

const HIDDEN = '[hidden]';

/** An address without who logs in (`redis://[hidden]@host`) and without its query; any other text as it is. */
export function withoutCredentials(text: string): string {
  return text
    .replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, `$1${HIDDEN}@`)
    .replace(/^([a-z][a-z0-9+.-]*:\/\/[^?#]*)\?.*/i, `$1?${HIDDEN}`);
}

/** Whether something of the value was hidden, so that it can't be read back. */
export function isHidden(value: unknown): boolean {
  return typeof value === 'string' && value.includes(HIDDEN);
}
