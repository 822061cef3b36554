/** A collector of traces: what is posted to it as OTLP/HTTP in JSON. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { z } from 'zod';

const VALUE = z.object({
  stringValue: z.string().optional(),
  intValue: z.union([z.number(), z.string()]).optional(),
  doubleValue: z.number().optional(),
  boolValue: z.boolean().optional(),
  arrayValue: z.object({ values: z.array(z.object({ stringValue: z.string() })) }).optional(),
});
const ATTRIBUTES = z.array(z.object({ key: z.string(), value: VALUE }));
const SPAN = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  kind: z.number(),
  startTimeUnixNano: z.string(),
  endTimeUnixNano: z.string(),
  attributes: ATTRIBUTES,
  status: z.object({ code: z.number().optional(), message: z.string().optional() }),
});
const EXPORT = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: ATTRIBUTES }),
      scopeSpans: z.array(z.object({ spans: z.array(SPAN) })),
    }),
  ),
});

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string | undefined;
  readonly name: string;
  readonly kind: number;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** 2: an error. */
  readonly status: number;
}

function attributesOf(attributes: z.infer<typeof ATTRIBUTES>): Record<string, unknown> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      value.arrayValue?.values.map(({ stringValue }) => stringValue) ??
        value.stringValue ??
        value.intValue ??
        value.doubleValue ??
        value.boolValue,
    ]),
  );
}

export class Collector {
  readonly url: string;
  readonly spans: CollectedSpan[] = [];
  readonly resource: Record<string, unknown> = {};
  /** All bodies, as they came. */
  text = '';

  private constructor(url: string) {
    this.url = url;
  }

  /** @param status that it answers with */
  static async start(
    t: { after(hook: () => void): void },
    status: number | 'never' = 200,
  ): Promise<Collector> {
    const server = createServer((req, res) => {
      const chunks: Buffer[] = [];
      req.on('data', (chunk: Buffer) => chunks.push(chunk));
      req.on('end', () => {
        if (status === 'never') return;
        if (status === 200) collector.#take(Buffer.concat(chunks).toString());
        res.writeHead(status, { 'content-type': 'application/json' }).end('{}');
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    assert(typeof address === 'object' && address !== null);
    const collector = new Collector(`http://127.0.0.1:${address.port}/v1/traces`);
    t.after(() => {
      server.close();
      server.closeAllConnections();
    });
    return collector;
  }

  named(name: string): CollectedSpan {
    const span = this.spans.find((each) => each.name === name);
    if (span === undefined)
      throw new Error(`no span ${name}; there are ${this.spans.map((s) => s.name).join(', ')}`);
    return span;
  }

  below(parent: CollectedSpan): CollectedSpan[] {
    return this.spans
      .filter(({ parentSpanId }) => parentSpanId === parent.spanId)
      .sort((a, b) => Number(a.startNs - b.startNs));
  }

  #take(text: string): void {
    this.text += text;
    for (const { resource, scopeSpans } of EXPORT.parse(JSON.parse(text)).resourceSpans) {
      Object.assign(this.resource, attributesOf(resource.attributes));
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        const { startTimeUnixNano, endTimeUnixNano, parentSpanId, status, ...rest } = span;
        this.spans.push({
          ...rest,
          parentSpanId,
          startNs: BigInt(startTimeUnixNano),
          endNs: BigInt(endTimeUnixNano),
          attributes: attributesOf(span.attributes),
          status: status.code ?? 0,
        });
      }
    }
  }
}
