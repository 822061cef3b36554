/**
 * A JSON Schema as a text that people can read, in the manner of TypeScript: a field a line, what it is for behind it.
 * Knows no DOM.
 */

export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly additionalProperties?: Schema | boolean;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly default?: unknown;
  readonly deprecated?: boolean;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

/** Finds what a `$ref` names; undefined: nothing. */
export type Resolve = (ref: string) => Schema | undefined;

const INDENT = '  ';

/** `1 to 16`, `at least 1`. Bounds that any whole number keeps say nothing. */
function boundsOf(min: number | undefined, max: number | undefined): string | undefined {
  const lower = min === undefined || min === Number.MIN_SAFE_INTEGER ? undefined : min;
  const upper = max === undefined || max === Number.MAX_SAFE_INTEGER ? undefined : max;
  if (lower === undefined) return upper === undefined ? undefined : `at most ${upper}`;
  return upper === undefined ? `at least ${lower}` : `${lower} to ${upper}`;
}

/** What a value must keep beside its type, and why it is there. */
function notesOf(schema: Schema): string {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  const inner = schema.anyOf?.find(({ type }) => type !== 'null') ?? {};
  const characters = boundsOf(minLength ?? inner.minLength, maxLength ?? inner.maxLength);
  const items = boundsOf(minItems ?? inner.minItems, maxItems ?? inner.maxItems);
  const notes = [
    boundsOf(minimum ?? inner.minimum, maximum ?? inner.maximum),
    characters && `${characters} characters`,
    items && `${items} items`,
    schema.default === undefined ? undefined : `default ${JSON.stringify(schema.default)}`,
  ].filter((note) => note !== undefined);
  return [notes.join(', '), schema.description ?? ''].filter((text) => text !== '').join('. ');
}

function objectText(schema: Schema, resolve: Resolve, indent: string): string {
  const { properties = {}, required = [], additionalProperties } = schema;
  const inner = indent + INDENT;
  const lines = Object.entries(properties)
    .filter(([, { deprecated }]) => deprecated !== true)
    .map(([name, property]) => {
      const mark = required.includes(name) ? '' : '?';
      const notes = notesOf(property);
      return `${inner}${name}${mark}: ${schemaText(property, resolve, inner)}${notes === '' ? '' : `  // ${notes}`}`;
    });
  if (typeof additionalProperties === 'object')
    lines.push(`${inner}[name]: ${schemaText(additionalProperties, resolve, inner)}`);
  return lines.length === 0 ? '{}' : `{\n${lines.join('\n')}\n${indent}}`;
}

function typeText(type: string, schema: Schema, resolve: Resolve, indent: string): string {
  if (type === 'object') return objectText(schema, resolve, indent);
  if (type !== 'array') return type;
  return `list of ${schemaText(schema.items ?? {}, resolve, indent)}`;
}

/** Of schemas without cycles. Fields that are not supported are left out. */
export function schemaText(schema: Schema, resolve: Resolve, indent = ''): string {
  if (schema.$ref !== undefined) return schemaText(resolve(schema.$ref) ?? {}, resolve, indent);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  const options = schema.anyOf ?? schema.oneOf;
  if (options !== undefined) return options.map((each) => schemaText(each, resolve, indent)).join(' | ');
  // Of an error the second part only says which codes it may have.
  if (schema.allOf !== undefined) return schemaText(schema.allOf[0] ?? {}, resolve, indent);
  const types = typeof schema.type === 'string' ? [schema.type] : (schema.type ?? ['anything']);
  return types.map((type) => typeText(type, schema, resolve, indent)).join(' | ');
}
