/**
 * How a document reads in a prompt whose chat template knows no documents: a Jinja template of one document.
 *
 * One document at a time and no number in it, so that a document has the same text in every prompt: its KV can then be
 * reused wherever it stands.
 */
import { Template } from '@huggingface/jinja';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';

export interface DocumentText {
  readonly title: string | undefined;
  readonly text: string;
}

/**
 * Ends with a blank line, at which tokenizers part words whatever follows. It is written as an expression, since Jinja
 * drops a line break at the end of a template.
 */
export const DEFAULT_DOCUMENT_TEMPLATE = '{% if title %}{{ title }}\n{% endif %}{{ text }}{{ "\n\n" }}';

export class DocumentTemplate {
  readonly #template: Template;

  /**
   * @param source reads `title` (undefined where there is none) and `text`
   * @throws RadixkvError `invalid_value` when it can't be parsed, or leaves the text out
   */
  constructor(source: string) {
    try {
      this.#template = new Template(source);
      if (!this.render({ title: 'a title', text: 'the text' }).includes('the text')) {
        throw refuse('must render the text of a document');
      }
    } catch (cause) {
      if (cause instanceof RadixkvError) throw cause;
      throw refuse(`can't be used: ${messageOf(cause)}`, cause);
    }
  }

  render({ title, text }: DocumentText): string {
    return this.#template.render({ title, text });
  }
}

function refuse(reason: string, cause?: unknown): RadixkvError {
  return new RadixkvError('invalid_value', `--document-template-file ${reason}`, {
    param: '--document-template-file',
    cause,
  });
}
