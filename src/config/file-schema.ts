/** The configuration file as JSON Schema, for editors that complete and check it. */
import { z } from 'zod';
import { fileKeyOf, OPTION_SCHEMA, SERVE_OPTION_ROWS } from './options.js';

/** What is said of the text of an option; booleans are told by their texts. */
const TEXT = z.looseObject({ enum: z.array(z.string()).optional() });

/** Values may be written as text or as what they are; the checks of texts are the command's own. */
export function configFileSchema(): object {
  const { properties = {} } = z.toJSONSchema(OPTION_SCHEMA, { io: 'input' });
  const options = SERVE_OPTION_ROWS.map((row) => {
    const text = TEXT.parse(properties[row.key]);
    const byDefault = row.defaultText?.();
    const values = text.enum?.includes('true')
      ? { type: ['boolean', 'string'], enum: [true, false, ...text.enum] }
      : { ...text, type: text.enum === undefined ? ['string', 'number'] : 'string' };
    const description =
      byDefault === undefined ? row.description : `${row.description} (default: ${byDefault})`;
    return [fileKeyOf(row), { description, ...values }] as const;
  });
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of radixkv',
    type: 'object',
    additionalProperties: false,
    properties: Object.fromEntries(options),
  };
}
