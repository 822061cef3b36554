/** Runs a schema over a request body and turns its first complaint into an error that names the field. */
import type { z } from 'zod';
import { RadixkvError } from '../errors.js';

/** `['messages', 0, 'content']` → `messages[0].content`. Keys that a client chose are shortened. */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((step, depth) => {
      if (typeof step === 'number') return `[${step}]`;
      const key = String(step).slice(0, 100);
      return depth === 0 ? key : `.${key}`;
    })
    .join('');
}

/** A string may stand for a list of one: a path that leads into it names the string. */
function clipped(path: readonly PropertyKey[], body: unknown): readonly PropertyKey[] {
  let value = body;
  for (const [depth, step] of path.entries()) {
    if (typeof value === 'string') return path.slice(0, depth);
    if (typeof value !== 'object' || value === null) return path;
    value = Reflect.get(value, step);
  }
  return path;
}

function toError(issue: z.core.$ZodIssue, body: unknown): RadixkvError {
  if (issue.code === 'unrecognized_keys') {
    const param = fieldName([...issue.path, issue.keys[0] ?? '']);
    return new RadixkvError('unsupported_field', `The field '${param}' is not supported.`, { param });
  }
  const param = fieldName(clipped(issue.path, body));
  const subject = param === '' ? 'The request body' : `The field '${param}'`;
  const details = param === '' ? {} : { param };
  if (issue.input === undefined) return new RadixkvError('invalid_value', `${subject} is missing.`, details);
  if (issue.code === 'custom') {
    const unsupported = issue.params?.code === 'unsupported_field';
    return new RadixkvError(
      unsupported ? 'unsupported_field' : 'invalid_value',
      `${subject} ${issue.message}.`,
      details,
    );
  }
  return new RadixkvError('invalid_value', `${subject} is invalid: ${issue.message}.`, details);
}

/**
 * The body in the schema's output type.
 *
 * @throws RadixkvError `invalid_value` or `unsupported_field`, with the field as `param`.
 */
export function validate<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const result = schema.safeParse(body, { reportInput: true });
  if (result.success) return result.data;
  throw toError(result.error.issues[0]!, body);
}
