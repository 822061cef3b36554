/** The border to whoever collects traces: spans with attributes, whatever library sends them. */
import type { TraceReading } from '../serving/statistics.js';

/** An undefined value is no attribute. */
export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface TraceSpan {
  /** 32 and 16 hex digits. */
  readonly traceId: string;
  readonly spanId: string;
  /** False: the trace was not chosen, and nothing of it is sent. */
  readonly isRecorded: boolean;
  /** @param startMs by `performance.now()`; absent: now */
  child(name: string, attributes: Attributes, startMs?: number): TraceSpan;
  rename(name: string): void;
  set(attributes: Attributes): void;
  /** It ended with an error of the server. @param message absent where it might quote the request */
  fail(type: string, message?: string): void;
  /** Ends now. */
  end(): void;
}

/** Request headers, lower case. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export interface Tracing {
  /** A span of the server; it continues the trace that the headers name, if they do. */
  begin(name: string, headers: Headers, attributes: Attributes): TraceSpan;
  reading(): TraceReading;
  /** Sends what is left, for so long at most. Never rejects. */
  close(timeoutMs: number): Promise<void>;
}
