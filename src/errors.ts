/**
 * The one table of operating errors: code → HTTP status, OpenAI error type, whether a retry can help.
 *
 * Anything a user, a file, a disk or a peer can cause is a `RadixkvError`. Programmer errors are assertions and
 * stop the process. Knows no HTTP framework.
 */

interface ErrorEntry {
  readonly status: number;
  readonly type: 'invalid_request_error' | 'rate_limit_error' | 'server_error' | 'model_error';
  readonly retryable: boolean;
}

export const ERRORS = {
  invalid_value: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_json: { status: 400, type: 'invalid_request_error', retryable: false },
  malformed_request: { status: 400, type: 'invalid_request_error', retryable: false },
  unsupported_field: { status: 400, type: 'invalid_request_error', retryable: false },
  context_length_exceeded: { status: 400, type: 'invalid_request_error', retryable: false },
  prompt_over_rate_limit: { status: 400, type: 'invalid_request_error', retryable: false },
  archive_invalid: { status: 400, type: 'invalid_request_error', retryable: false },
  invalid_api_key: { status: 401, type: 'invalid_request_error', retryable: false },
  insufficient_permissions: { status: 403, type: 'invalid_request_error', retryable: false },
  model_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  document_not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  not_found: { status: 404, type: 'invalid_request_error', retryable: false },
  method_not_allowed: { status: 405, type: 'invalid_request_error', retryable: false },
  archive_mismatch: { status: 409, type: 'invalid_request_error', retryable: false },
  not_cached: { status: 409, type: 'invalid_request_error', retryable: false },
  pins_full: { status: 409, type: 'invalid_request_error', retryable: false },
  library_full: { status: 409, type: 'invalid_request_error', retryable: false },
  body_too_large: { status: 413, type: 'invalid_request_error', retryable: false },
  unsupported_media_type: { status: 415, type: 'invalid_request_error', retryable: false },
  rate_limit_exceeded: { status: 429, type: 'rate_limit_error', retryable: true },
  queue_full: { status: 429, type: 'rate_limit_error', retryable: true },
  internal: { status: 500, type: 'server_error', retryable: false },
  engine_failed: { status: 503, type: 'server_error', retryable: true },
  device_memory_full: { status: 503, type: 'server_error', retryable: true },
  statistics_unavailable: { status: 503, type: 'server_error', retryable: true },
  shutting_down: { status: 503, type: 'server_error', retryable: true },
  deadline_exceeded: { status: 504, type: 'server_error', retryable: false },
  unsupported_model: { status: 400, type: 'model_error', retryable: false },
  corrupt_model: { status: 400, type: 'model_error', retryable: false },
  download_failed: { status: 502, type: 'model_error', retryable: true },
  checksum_mismatch: { status: 502, type: 'model_error', retryable: true },
} as const satisfies Record<string, ErrorEntry>;

export type ErrorCode = keyof typeof ERRORS;

export const ERROR_CODES: readonly ErrorCode[] = Object.keys(ERRORS).filter(
  (code): code is ErrorCode => code in ERRORS,
);

/** An operating error with a stable code. `param` names the request field at fault. */
export class RadixkvError extends Error {
  readonly code: ErrorCode;
  readonly param: string | undefined;
  /** Seconds after which a retry is worth trying (429 and 503). */
  readonly retryAfterS: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    details: { readonly param?: string; readonly retryAfterS?: number; readonly cause?: unknown } = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'RadixkvError';
    this.code = code;
    this.param = details.param;
    this.retryAfterS = details.retryAfterS;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }
}
