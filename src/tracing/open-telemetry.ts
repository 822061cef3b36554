/**
 * Traces by OpenTelemetry's SDK, sent in batches as OTLP (JSON over HTTP). Imported only where there is a collector.
 *
 * What the SDK reads from the environment applies: the sampler, limits of batches, headers and timeouts of the export,
 * and attributes of the resource. At most so many spans wait as its queue holds; what comes beyond them is dropped and
 * counted, and so is what the collector does not take. Requests never wait for either.
 */
import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import { ExportResultCode, getNumberFromEnv, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from '@opentelemetry/resources';
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import type { Logger } from 'pino';
import type { TraceReading } from '../serving/statistics.js';
import type { Attributes, Headers, TraceSpan, Tracing } from './spans.js';

/** Unless OTEL_BSP_MAX_QUEUE_SIZE says something else. */
const WAITING_MAX = 2048;

/** A collector that is down is logged that often. */
const LOG_EVERY_MS = 60_000;

const headersGetter = {
  keys: (headers: Headers) => Object.keys(headers),
  get: (headers: Headers, name: string) => {
    const value = headers[name];
    return typeof value === 'string' || value === undefined ? value : [...value];
  },
};

class OpenTelemetrySpan implements TraceSpan {
  readonly #tracer: Tracer;
  readonly #span: Span;

  constructor(tracer: Tracer, span: Span) {
    this.#tracer = tracer;
    this.#span = span;
  }

  get traceId(): string {
    return this.#span.spanContext().traceId;
  }

  get spanId(): string {
    return this.#span.spanContext().spanId;
  }

  get isRecorded(): boolean {
    return this.#span.isRecording();
  }

  child(name: string, attributes: Attributes, startMs?: number): TraceSpan {
    const options = { attributes: defined(attributes), ...(startMs !== undefined && { startTime: startMs }) };
    return new OpenTelemetrySpan(this.#tracer, this.#tracer.startSpan(name, options, this.#context));
  }

  rename(name: string): void {
    this.#span.updateName(name);
  }

  set(attributes: Attributes): void {
    this.#span.setAttributes(defined(attributes));
  }

  fail(type: string, message?: string): void {
    this.#span.setAttribute('error.type', type);
    this.#span.setStatus({ code: SpanStatusCode.ERROR, ...(message !== undefined && { message }) });
  }

  end(): void {
    this.#span.end(performance.now());
  }

  get #context(): Context {
    return trace.setSpan(ROOT_CONTEXT, this.#span);
  }
}

function defined(attributes: Attributes): Record<string, string | number | boolean | string[]> {
  const entries = Object.entries(attributes).flatMap(([key, value]) => {
    if (value === undefined) return [];
    return [[key, typeof value === 'object' ? [...value] : value] as const];
  });
  return Object.fromEntries(entries);
}

/** Counts what becomes of spans on their way to the exporter, and keeps so many from waiting that the batches overflow. */
class CountedExport {
  readonly counts = { sent: 0, dropped: 0, failed: 0 };
  readonly #waitingMax: number;
  readonly #logger: Logger | undefined;
  #waiting = 0;
  #loggedAtMs = Number.NEGATIVE_INFINITY;

  constructor(waitingMax: number, logger: Logger | undefined) {
    this.#waitingMax = waitingMax;
    this.#logger = logger;
  }

  processor(inner: SpanProcessor): SpanProcessor {
    return {
      onStart: (span, context) => inner.onStart(span, context),
      onEnd: (span) => {
        if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
        if (this.#waiting >= this.#waitingMax) {
          this.counts.dropped++;
          return;
        }
        this.#waiting++;
        inner.onEnd(span);
      },
      forceFlush: () => inner.forceFlush(),
      shutdown: () => inner.shutdown(),
    };
  }

  exporter(inner: SpanExporter): SpanExporter {
    return {
      export: (spans: ReadableSpan[], done) => {
        inner.export(spans, (result) => {
          this.#waiting -= spans.length;
          const isSent = result.code === ExportResultCode.SUCCESS;
          this.counts[isSent ? 'sent' : 'failed'] += spans.length;
          if (!isSent) this.#log(result.error);
          done(result);
        });
      },
      shutdown: () => inner.shutdown(),
    };
  }

  #log(error: Error | undefined): void {
    const nowMs = performance.now();
    if (nowMs - this.#loggedAtMs < LOG_EVERY_MS) return;
    this.#loggedAtMs = nowMs;
    this.#logger?.warn({ reason: error?.message, spans: this.counts }, 'traces could not be sent');
  }
}

class OpenTelemetry implements Tracing {
  readonly #provider: BasicTracerProvider;
  readonly #tracer: Tracer;
  readonly #exported: CountedExport;
  readonly #propagator = new W3CTraceContextPropagator();

  constructor(parts: {
    readonly url: string;
    readonly version: string;
    readonly logger: Logger | undefined;
  }) {
    const { url, version, logger } = parts;
    this.#exported = new CountedExport(getNumberFromEnv('OTEL_BSP_MAX_QUEUE_SIZE') ?? WAITING_MAX, logger);
    const batches = new BatchSpanProcessor(this.#exported.exporter(new OTLPTraceExporter({ url })));
    this.#provider = new BasicTracerProvider({
      resource: defaultResource()
        .merge(resourceFromAttributes({ 'service.name': 'radixkv', 'service.version': version }))
        .merge(detectResources({ detectors: [envDetector] })),
      spanProcessors: [this.#exported.processor(batches)],
    });
    this.#tracer = this.#provider.getTracer('radixkv', version);
  }

  begin(name: string, headers: Headers, attributes: Attributes): TraceSpan {
    const parent = this.#propagator.extract(ROOT_CONTEXT, headers, headersGetter);
    const options = { kind: SpanKind.SERVER, attributes: defined(attributes) };
    return new OpenTelemetrySpan(this.#tracer, this.#tracer.startSpan(name, options, parent));
  }

  reading(): TraceReading {
    return { spans: { ...this.#exported.counts } };
  }

  async close(timeoutMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([this.#provider.shutdown().catch(() => undefined), timeout]);
    clearTimeout(timer);
  }
}

/** @param parts.url that traces are posted to */
export function createOpenTelemetry(parts: {
  readonly url: string;
  readonly version: string;
  readonly logger: Logger | undefined;
}): Tracing {
  return new OpenTelemetry(parts);
}
