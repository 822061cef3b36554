/**
 * What stands before a document when its KV is computed ahead of time: a prompt's beginning and a few passages of no
 * matter, whose rows are dropped.
 *
 * Alone, the first tokens of a document become attention sinks and all of it attends to nothing but itself; in a prompt
 * it stands behind others. A context like a prompt's gives it KV that is much closer to what it has there, whatever the
 * documents before it. Sources: the dropped prefix of EPIC (arXiv 2410.15332) and the neighbours of FusionRAG
 * (arXiv 2601.12904); here the neighbours are the same for all documents, so that a document is computed once, and the
 * context too, since the tree shares it.
 */
import { encodeDocuments } from './chat-prompt.js';
import type { ChatTemplate } from './chat-template.js';
import type { DocumentTemplate, DocumentText } from './document-template.js';
import type { Tokenizer } from './tokenizer.js';

/** Of different subjects, so that they lend none to what follows. */
const PASSAGES: readonly DocumentText[] = [
  {
    title: 'Storm records',
    text: 'The library of the town keeps a record of every storm. Each entry names the day, the wind and what was lost, and is signed by two witnesses, who may be asked about it later. Copies are sent to the harbour office, where they are bound by year and kept dry above the stove.',
  },
  {
    title: 'Baking with rye',
    text: 'Rye dough is stickier than wheat dough and does not stretch. It is mixed briefly, left to sour overnight at 28 degrees, and baked in a tin for an hour. The loaf is cut on the next day at the earliest, since its crumb sets slowly; it then keeps for a week in linen.',
  },
  {
    title: undefined,
    text: 'A lease of a garden plot runs for five years. The tenant pays in March, keeps the path clear to its middle, and may build a shed of at most eight square metres. Fires are allowed from October on, dogs on a lead. Who gives up a plot leaves the fruit trees standing; the next tenant pays for them what the committee thinks fair.',
  },
  {
    title: 'Tuning a cello',
    text: 'The four strings are tuned in fifths: C, G, D and A. One begins with the A, by a fork or an oboe, and listens for the beats between neighbours, which slow down and vanish. Pegs turn towards the scroll while they are pushed in; fine tuners do the rest. New strings stretch for some days, and damp rooms make all of them sink.',
  },
  {
    title: 'Minutes of the ferry board',
    text: 'Present were nine of eleven members. The board took note of the accounts and thanked the treasurer. It was agreed to paint the hull in April rather than in June, and to ask two yards for their price. A proposal to sell hot soup on the early crossing was put off until the stove has been inspected. The next meeting is on the second Tuesday of May.',
  },
  {
    title: 'Lichens',
    text: 'A lichen is a fungus that lives with algae. The fungus gives shelter and water, the algae sugar from light. Many grow less than a millimetre a year, so that a patch as wide as a hand may be older than the wall it covers. They take what they need from rain and air, and disappear where the air is foul, which is why they are counted near motorways.',
  },
  {
    title: 'Line 4',
    text: 'Trams of line 4 run from the old brewery to the university every ten minutes, and every half an hour at night. The section across the bridge was opened in 1987; its stops have no barriers, and tickets are sold on board. In summer some trams go on to the lake.',
  },
];

/** More of the model's own context than this share is not spent on it. */
const SHARE_MAX = 1 / 8;

/**
 * Tokens of the context, in whole chunks, so that the tree shares all of them; none where that is too few.
 *
 * @param parts.template undefined: documents are of no use, and neither is a context
 */
export function segmentContext(
  parts: {
    readonly tokenizer: Tokenizer;
    readonly template: ChatTemplate | undefined;
    readonly documentTemplate: DocumentTemplate;
  },
  { chunkTokens, contextTokens }: { readonly chunkTokens: number; readonly contextTokens: number },
): Int32Array {
  const { template } = parts;
  if (template === undefined) return new Int32Array();
  const asker = { role: 'user', content: '' } as const;
  const options = { addGenerationPrompt: false };
  const { tokens, located } = encodeDocuments({ ...parts, template }, [asker], PASSAGES, options);
  const end = Math.min(located.at(-1)?.end ?? 0, Math.floor(contextTokens * SHARE_MAX));
  return tokens.slice(0, end - (end % chunkTokens));
}
