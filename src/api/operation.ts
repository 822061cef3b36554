/**
 * What the API can do, one `Operation` each: its path, what it takes, what it answers, and the code behind it.
 *
 * Both the router (`mount`) and the OpenAPI document (openapi.ts) are made of the same list, and a request is validated by
 * the very schemas that the document shows: code behind an operation sees nothing else of a request's parameters.
 */
import type { Express, Request, RequestHandler, Response } from 'express';
import type { z } from 'zod';
import { type ErrorCode, RadixkvError } from '../errors.js';
import type { BodyReader } from './body.js';
import { validate } from './validate.js';

export const TAGS = {
  completions: 'Answers of the model, in OpenAI’s formats and Anthropic’s.',
  documents: 'Passages whose KV is computed ahead of time.',
  cache: 'What is cached, what would hit, and what is to stay or go.',
  statistics: 'What requests came to.',
  models: 'What is served.',
  server: 'Health, metrics, and the pages of the server itself.',
} as const;

export interface Answer {
  readonly description: string;
  /** By media type. Of `text/event-stream` it is the data of one event. */
  readonly content: Readonly<Record<string, z.ZodType>>;
}

/** An answer in JSON. */
export function json(schema: z.ZodType, description = 'The answer.'): Answer {
  return { description, content: { 'application/json': schema } };
}

interface Description {
  /** Names the operation in code that is generated from the document. */
  readonly id: string;
  readonly method: 'get' | 'post' | 'put' | 'delete';
  /** In the words of the router: `:id` is a part of the path, `*id` the rest of it. */
  readonly path: string;
  readonly tag: keyof typeof TAGS;
  readonly summary: string;
  /** Anybody may ask, whoever else needs a key. */
  readonly isOpen?: boolean;
  /** By status. */
  readonly answers: Readonly<Record<number, Answer>>;
  /** Codes that the work itself may end with; those of reading the request are known. */
  readonly errors?: readonly ErrorCode[];
  /** A body of Anthropic's kind when it fails. */
  readonly errorShape?: 'messages';
  /** A request that works: values of the parameters, and the body. */
  readonly example?: {
    readonly params?: Readonly<Record<string, string>>;
    readonly query?: Readonly<Record<string, string>>;
    readonly body?: unknown;
  };
}

interface Schemas<Params, Query, Headers, Body> {
  readonly params?: z.ZodType<Params>;
  readonly query?: z.ZodType<Query>;
  /** Of those that are named; there may be any others. */
  readonly headers?: z.ZodType<Headers>;
  readonly body?: z.ZodType<Body>;
  /** Of each line of a body in `application/x-ndjson`, which the operation reads by itself. */
  readonly lines?: z.ZodType;
  /** The media type of a body of bytes, which the operation reads by itself. */
  readonly upload?: string;
  /** A body need not come: the query says whether one does. */
  readonly isBodyOptional?: boolean;
}

/** A request to an operation. All but the body was validated. */
export interface Asked<Params, Query, Headers, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly headers: Headers;
  /** Reads the body and validates it. @throws RadixkvError */
  readonly body: () => Promise<Body>;
  readonly req: Request;
  readonly res: Response;
}

export interface Operation extends Description, Schemas<unknown, unknown, unknown, unknown> {
  readonly handlerWith: (readBody: BodyReader) => RequestHandler;
}

function read<T>(schema: z.ZodType<T> | undefined, value: unknown): T {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- without a schema nothing is known of it
  return schema === undefined ? (undefined as T) : validate(schema, value);
}

export function operation<Params = unknown, Query = unknown, Headers = unknown, Body = unknown>({
  handle,
  ...described
}: Description &
  Schemas<Params, Query, Headers, Body> & {
    readonly handle: (asked: Asked<Params, Query, Headers, Body>) => void | Promise<void>;
  }): Operation {
  const { params, query, headers, body } = described;
  const handlerWith = (readBody: BodyReader): RequestHandler => {
    return (req, res) =>
      handle({
        params: read(params, req.params),
        query: read(query, req.query),
        headers: read(headers, req.headers),
        body: async () => read(body, await readBody(req, res)),
        req,
        res,
      });
  };
  return { ...described, handlerWith };
}

function refuseMethod(allowed: string): RequestHandler {
  return (req, res) => {
    res.setHeader('allow', allowed);
    throw new RadixkvError('method_not_allowed', `${req.method} is not allowed here; use ${allowed}.`);
  };
}

/** Routes all operations, and refuses other methods of their paths. */
export function mount(app: Express, operations: readonly Operation[], readBody: BodyReader): void {
  const methods = new Map<string, string[]>();
  for (const { method, path, handlerWith } of operations) {
    app[method](path, handlerWith(readBody));
    methods.set(path, [...(methods.get(path) ?? []), method.toUpperCase()]);
  }
  for (const [path, allowed] of methods) app.route(path).all(refuseMethod(allowed.join(', ')));
}
