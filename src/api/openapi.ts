/**
 * `GET /openapi.json`: the API in OpenAPI 3.1, written from its operations.
 *
 * Schemas are those that validate requests, and those that type and test answers, as zod writes them in JSON Schema; what
 * checks by code stands as the shape that `looksLike` gave it. What every operation has is added here: the request id,
 * credentials, and the errors of reading a request. OpenAPI 3.1 has no word for the items of a stream: their schema is
 * `x-itemSchema`, by the name that it has in 3.2.
 */
import { z } from 'zod';
import { ERRORS, type ErrorCode } from '../errors.js';
import { packageVersion } from '../version.js';
import { errorAnswer, messagesErrorAnswer } from './error-answers.js';
import { shapeOf } from './fields.js';
import { type Answer, json, type Operation, operation, TAGS } from './operation.js';

type Json = Readonly<Record<string, unknown>>;
/** As zod writes it. */
type Written = Json & { readonly $defs?: Readonly<Record<string, Json>> };

const JSON_TYPE = 'application/json';
const LINES_TYPE = 'application/x-ndjson';
const EVENTS_TYPE = 'text/event-stream';

const SECURITY_SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'As OpenAI’s clients send it.' },
  apiKey: {
    type: 'apiKey',
    in: 'header',
    name: 'x-api-key',
    description: 'As Anthropic’s clients send it. It comes before the other.',
  },
} as const;

const REQUEST_ID = {
  name: 'x-request-id',
  in: 'header',
  description: 'Named in the answer and in the log, if it has at most 128 plain characters.',
  schema: { type: 'string' },
};

/** Schemas with a name, gathered while others are written that refer to them. */
class Components {
  readonly schemas: Record<string, Json> = {};

  /** A reference to what a request takes, under a name. */
  input(name: string, schema: z.ZodType): Json {
    this.schemas[name] = this.written(schema, 'input');
    return { $ref: `#/components/schemas/${name}` };
  }

  /** Schemas that have an id are named by it, and referred to. */
  written(schema: z.ZodType, io: 'input' | 'output'): Json {
    const text = JSON.stringify(
      z.toJSONSchema(schema, {
        io,
        unrepresentable: 'any',
        override: ({ zodSchema, jsonSchema }) => {
          const shape = shapeOf(zodSchema);
          if (shape !== undefined) replace(jsonSchema, this.written(shape, io));
          else if (io === 'output') loosen(jsonSchema);
          else if (zodSchema instanceof z.ZodObject) requireShapes(zodSchema, jsonSchema);
        },
      }),
    );
    const {
      $schema: _,
      $defs = {},
      ...written
    }: Written = JSON.parse(text.replaceAll('"#/$defs/', '"#/components/schemas/'));
    for (const [name, { id: _id, ...named }] of Object.entries($defs)) this.schemas[name] ??= named;
    return written;
  }
}

/** Answers may get further fields, and their numbers are as they are. */
function loosen(schema: z.core.JSONSchema.BaseSchema): void {
  if (schema.type === 'object' && schema.additionalProperties === false) delete schema.additionalProperties;
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (schema.format === 'date-time') delete schema.pattern;
}

/** To zod a field that is checked by code may be absent, since the code might allow it: its shape knows better. */
function requireShapes(object: z.ZodObject, schema: z.core.JSONSchema.BaseSchema): void {
  const shaped = Object.entries(object.shape).filter(([, field]) => {
    const shape = shapeOf(field);
    return shape !== undefined && !shape.safeParse(undefined).success;
  });
  const required = new Set([...(schema.required ?? []), ...shaped.map(([name]) => name)]);
  if (required.size > 0) schema.required = [...required];
}

/** All of a schema but what says what it is for. */
function replace(schema: Record<string, unknown>, by: Json): void {
  const { description } = schema;
  for (const key of Object.keys(schema)) delete schema[key];
  Object.assign(schema, by, description === undefined ? {} : { description });
}

/** What may come of reading a request before the operation sees it. */
function readingErrors({ isOpen, params, query, headers, body, lines, upload }: Operation): ErrorCode[] {
  const isRead = body !== undefined;
  const isChecked = isRead || params !== undefined || query !== undefined || headers !== undefined;
  return [
    'malformed_request',
    'internal',
    ...(isOpen ? [] : (['invalid_api_key', 'rate_limit_exceeded'] as const)),
    ...(isChecked ? (['invalid_value', 'unsupported_field'] as const) : []),
    ...(isRead ? (['invalid_json', 'body_too_large'] as const) : []),
    ...(isRead || lines !== undefined || upload !== undefined ? (['unsupported_media_type'] as const) : []),
  ];
}

function contentOf(components: Components, type: string, schema: z.ZodType): Json {
  if (type === JSON_TYPE) return { schema: components.written(schema, 'output') };
  if (type !== EVENTS_TYPE) return { schema: { type: 'string' } };
  return { 'x-itemSchema': components.written(schema, 'output') };
}

function answerJson(components: Components, { description, content }: Answer): Json {
  const types = Object.entries(content);
  return {
    description,
    headers: { 'x-request-id': { $ref: '#/components/headers/RequestId' } },
    content: Object.fromEntries(types.map(([type, schema]) => [type, contentOf(components, type, schema)])),
  };
}

/** Errors by status, each with the codes that it may have there. */
function errorAnswers(components: Components, each: Operation): Record<string, Json> {
  const codes = [...new Set([...readingErrors(each), ...(each.errors ?? [])])];
  const isMessages = each.errorShape === 'messages';
  const shape = components.written(isMessages ? messagesErrorAnswer : errorAnswer, 'output');
  const answers: Record<string, Json> = {};
  for (const status of new Set(codes.map((code) => ERRORS[code].status))) {
    const here = codes.filter((code) => ERRORS[code].status === status);
    const name = isMessages
      ? { details: { properties: { error_code: { enum: here } } } }
      : { code: { enum: here } };
    answers[status] = {
      description: here.map((code) => `\`${code}\``).join(', '),
      headers: {
        'x-request-id': { $ref: '#/components/headers/RequestId' },
        ...([429, 503].includes(status) && { 'retry-after': { $ref: '#/components/headers/RetryAfter' } }),
      },
      content: {
        [JSON_TYPE]: { schema: { allOf: [shape, { properties: { error: { properties: name } } }] } },
      },
    };
  }
  return answers;
}

type Place = 'path' | 'query' | 'header';

function parametersIn(
  components: Components,
  place: Place,
  schema: z.ZodType | undefined,
  examples: Readonly<Record<string, string>> = {},
): Json[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = components.written(schema, 'input') as {
    properties?: Record<string, { description?: string; type?: string; items?: Json }>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...written }]) => ({
    name,
    in: place,
    ...(description !== undefined && { description }),
    required: place === 'path' || required.includes(name),
    // The rest of a path is a list to the router.
    schema: place === 'path' && written.type === 'array' ? { type: 'string', minLength: 1 } : written,
    ...(examples[name] !== undefined && { example: examples[name] }),
  }));
}

function bodyJson(
  components: Components,
  { id, body, lines, upload, isBodyOptional = false, example }: Operation,
): Json {
  const name = `${id[0]!.toUpperCase()}${id.slice(1)}Request`;
  if (body !== undefined) {
    const schema = components.input(name, body);
    const content = {
      [JSON_TYPE]: { schema, ...(example?.body !== undefined && { example: example.body }) },
    };
    return { requestBody: { required: !isBodyOptional, content } };
  }
  if (upload !== undefined) {
    const content = { [upload]: { schema: { type: 'string', contentMediaType: upload } } };
    return { requestBody: { required: true, content } };
  }
  if (lines === undefined) return {};
  const item = components.input(name, lines);
  return {
    requestBody: {
      description: 'A JSON object a line.',
      content: { [LINES_TYPE]: { schema: { type: 'string' }, 'x-itemSchema': item } },
    },
  };
}

function operationJson(components: Components, each: Operation): Json {
  const { id, tag, summary, isOpen, params, query, headers, answers, example } = each;
  const written = Object.entries(answers).map(([status, answer]) => [status, answerJson(components, answer)]);
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(isOpen && { security: [] }),
    parameters: [
      ...parametersIn(components, 'path', params, example?.params),
      ...parametersIn(components, 'query', query, example?.query),
      ...parametersIn(components, 'header', headers),
      { $ref: '#/components/parameters/RequestId' },
    ],
    ...bodyJson(components, each),
    responses: { ...errorAnswers(components, each), ...Object.fromEntries(written) },
  };
}

/** `/v1/models/*id` → `/v1/models/{id}`. */
export function pathTemplate(path: string): string {
  return path.replace(/[:*](\w+)/g, '{$1}');
}

export function openApiDocument(operations: readonly Operation[]) {
  const components = new Components();
  const paths: Record<string, Record<string, Json>> = {};
  for (const each of operations) {
    const path = pathTemplate(each.path);
    paths[path] = { ...paths[path], [each.method]: operationJson(components, each) };
  }
  return {
    openapi: '3.1.1',
    info: {
      title: 'radixkv',
      version: packageVersion(),
      summary: 'KV-cache reuse for LLM serving.',
      description: 'A field that is not supported or not known is refused by name; `null` means absent.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '.', description: 'Where this document is.' }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    // One of them, or none where no keys are required.
    security: [{ bearer: [] }, { apiKey: [] }, {}],
    paths,
    components: {
      schemas: components.schemas,
      securitySchemes: SECURITY_SCHEMES,
      parameters: { RequestId: REQUEST_ID },
      headers: {
        RequestId: { description: 'Names the request in the log.', schema: { type: 'string' } },
        RetryAfter: { description: 'Seconds after which to try again.', schema: { type: 'integer' } },
      },
    },
  };
}

const anyDocument = z.looseObject({ openapi: z.string() });

/** Open to all: nothing in it is secret. It is written when it is first asked for. */
export function documentOperation(operations: () => readonly Operation[]): Operation {
  let text: string | undefined;
  return operation({
    id: 'getOpenApi',
    method: 'get',
    path: '/openapi.json',
    tag: 'server',
    summary: 'This document.',
    isOpen: true,
    answers: { 200: json(anyDocument) },
    handle: ({ res }) => {
      text ??= JSON.stringify(openApiDocument(operations()));
      res.type('json').send(text);
    },
  });
}
