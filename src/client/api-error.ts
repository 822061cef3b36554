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

interface ErrorBody {
  readonly error?: {
    readonly message?: string;
    readonly code?: ErrorCode;
    readonly param?: string | null;
  } | null;
}

/** Whatever it is: a proxy answers in its own way. */
function parsed(text: string): ErrorBody {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

/** Reads the body of a response that is not ok. */
export async function errorOf(response: Response): Promise<RadixkvApiError> {
  const { error } = parsed(await response.text().catch(() => ''));
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new RadixkvApiError(error?.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: error?.code,
    param: error?.param ?? undefined,
    retryAfterS: Number.isFinite(seconds) ? seconds : undefined,
    requestId: response.headers.get('x-request-id') ?? undefined,
  });
}
