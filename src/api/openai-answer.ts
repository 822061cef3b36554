/**
 * What both of OpenAI's completion endpoints have in common: bodies and chunks with `choices`, `usage` and, beside what
 * OpenAI has, `timings` and `explanation`. A stream ends with `[DONE]`.
 */
import type { FinishReason, TokenLogprob } from '../serving/completion.js';
import type { Dialect, End, FinishedChoice, Head, Parsed, StreamRenderer } from './dialect.js';
import { explanationJson } from './explanation.js';
import { timingsJson, usageJson } from './usage.js';

/** Renders the choices of one stream; it may remember what it has sent. */
interface ChunkRenderer {
  /** What a choice opens with, before its first text; `undefined` for nothing. */
  opening(index: number): object | undefined;
  delta(index: number, text: string, logprobs: readonly TokenLogprob[] | undefined): object;
  finish(index: number, reason: FinishReason): object;
}

/** What the two endpoints differ in. */
export interface OpenAiShapes {
  readonly replyObject: string;
  readonly chunkObject: string;
  choice(choice: FinishedChoice): object;
  createChunkRenderer(): ChunkRenderer;
}

function headJson({ id, created, model }: Head) {
  return {
    id,
    created,
    model: model.id,
    ...(model.fingerprint === undefined ? {} : { system_fingerprint: model.fingerprint }),
  };
}

/** What an answer closes with: the usage, and what is not part of OpenAI's format. */
function closing({ usage, timings, explanation }: End, choices: number) {
  return {
    usage: usageJson(usage),
    extras: {
      timings: timingsJson(usage, timings, choices),
      ...(explanation && { explanation: explanationJson(explanation) }),
    },
  };
}

export function openAiAnswers(shapes: OpenAiShapes): Pick<Dialect, 'whole' | 'createStream'> {
  return {
    whole: (head, { work }, { choices, end }) => {
      const { usage, extras } = closing(end, work.n);
      return {
        ...headJson(head),
        object: shapes.replyObject,
        choices: choices.map((choice) => shapes.choice(choice)),
        usage,
        ...extras,
      };
    },
    createStream: (head, parsed) => createStream(shapes, head, parsed),
  };
}

/** A chunk an event; the last finish is held back until the end event brings what goes with it. */
function createStream(shapes: OpenAiShapes, head: Head, { work, includeUsage }: Parsed): StreamRenderer {
  const fields = { ...headJson(head), object: shapes.chunkObject };
  const noUsageYet = includeUsage ? { usage: null } : {};
  const renderer = shapes.createChunkRenderer();
  const chunks = (choices: readonly (object | undefined)[], extra: object = {}) =>
    choices
      .filter((choice) => choice !== undefined)
      .map((choice) => ({ data: { ...fields, choices: [choice], ...noUsageYet, ...extra } }));
  let heldFinish: object | undefined;
  return (event) => {
    if (event.type === 'prompt') {
      return chunks(Array.from({ length: work.n }, (_, index) => renderer.opening(index)));
    }
    const held = heldFinish;
    heldFinish = undefined;
    if (event.type === 'delta') {
      return chunks([held, renderer.delta(event.index, event.text, event.logprobs)]);
    }
    if (event.type === 'finish') {
      heldFinish = renderer.finish(event.index, event.reason);
      return chunks([held]);
    }
    const { usage, extras } = closing(event, work.n);
    const last = chunks([held], includeUsage ? {} : extras);
    const withUsage = { data: { ...fields, choices: [], usage, ...extras } };
    return [...last, ...(includeUsage ? [withUsage] : []), { data: '[DONE]' }];
  };
}
