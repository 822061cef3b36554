/** An answer of the server that is an error. */
import type { ErrorCode } from '../errors.js';

export class RadixkvApiError extends Error {
  readonly status: number;
  /** Of docs/errors.md; undefined where something else than the server answered, such as a proxy. */
  readonly code: ErrorCode | undefined;
  /** The field or parameter at fault. */
  readonly param: string | undefined;
  /** Seconds after which the server would have it tried again. */
  readonly retryAfterS: number | undefined;
  /** Names the request in the server's log. */
  readonly requestId: string | undefined;

  constructor(
    message: string,
    details: Pick<RadixkvApiError, 'status' | 'code' | 'param' | 'retryAfterS' | 'requestId'>,
  ) {
    super(message);
    this.name = 'RadixkvApiError';
    this.status = details.status;
    this.code = details.code;
    this.param = details.param;
    this.retryAfterS = details.retryAfterS;
    this.requestId = details.requestId;
  }
}

function objectIn(value: unknown, field: string): object {
  const found: unknown = typeof value === 'object' && value !== null ? Reflect.get(value, field) : undefined;
  return typeof found === 'object' && found !== null ? found : {};
}

function textIn(value: object, field: string): string | undefined {
  const found: unknown = Reflect.get(value, field);
  return typeof found === 'string' ? found : undefined;
}

/** Reads the body of a response that is not ok. */
export async function errorOf(response: Response): Promise<RadixkvApiError> {
  const body: unknown = await response.json().catch(() => undefined);
  const error = objectIn(body, 'error');
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new RadixkvApiError(textIn(error, 'message') ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: textIn(error, 'code') as ErrorCode | undefined,
    param: textIn(error, 'param'),
    retryAfterS: Number.isFinite(seconds) ? seconds : undefined,
    requestId: response.headers.get('x-request-id') ?? undefined,
  });
}
