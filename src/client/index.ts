export type { ErrorCode } from '../errors.js';
export { RadixkvApiError } from './api-error.js';
export { RadixkvClient, type WaitOptions, type WarmWaitOptions } from './client.js';
export type { EventsOptions } from './event-stream.js';
export type { CallOptions, RadixkvClientOptions } from './transport.js';
export type * from './types.js';
