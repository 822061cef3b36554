/** A body names the model that it is about: the one that is served. */
import type { CompletionService } from '../serving/completion.js';
import { modelNotFound } from './error-response.js';

/** The body itself. @throws RadixkvError `model_not_found` */
export function served<Body extends { readonly model: string }>(
  { model: { id } }: CompletionService,
  body: Body,
): Body {
  if (body.model !== id) throw modelNotFound(id);
  return body;
}
