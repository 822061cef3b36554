/** Content of a message: a string, or parts of text, which are joined by line feeds. */
import { z } from 'zod';
import { list, looksLike, text } from './fields.js';

/** A part that is text and has, beside it, the given fields; other types of parts are refused by their name. */
export function textPart<Fields extends z.ZodRawShape>(fields: Fields) {
  return z.strictObject({
    type: looksLike(
      z.literal('text'),
      z.custom<'text'>((value) => value === 'text', {
        error: "is not supported, other than 'text'",
        params: { code: 'unsupported_field' },
      }),
    ),
    text,
    ...fields,
  });
}

/** The string that a template reads. */
export function textContent<Part extends z.ZodType<{ readonly text: string }>>(part: Part, partsMax: number) {
  const content = z
    .preprocess(
      (value) => (typeof value === 'string' ? [{ type: 'text', text: value }] : value),
      z
        .custom((value) => Array.isArray(value), 'must be a string or an array of text parts')
        .pipe(list(part, partsMax) as z.ZodType<{ readonly text: string }[]>),
    )
    .transform((parts) => parts.map((each) => each.text).join('\n'));
  return looksLike(z.union([text, z.array(part).max(partsMax)]), content);
}
