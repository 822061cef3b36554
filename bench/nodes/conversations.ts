/**
 * Conversations to be replayed: each begins with one of a few system prompts, and every turn resends all before it. The
 * assistant's messages are part of the script, so that prompts are the same whoever answers. Made for the tiny model,
 * to which a character is a token.
 */
import { type Random, seededRandom } from '../../src/engine/random.js';

export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

export interface ReplayShape {
  readonly conversations: number;
  /** Of each; absent: drawn as in a recorded trace. */
  readonly turns?: number;
  readonly seed: number;
}

/** One request: the messages so far of a conversation. */
export interface Request {
  readonly conversation: number;
  readonly turn: number;
  readonly messages: readonly Message[];
}

const SYSTEM_PROMPTS = 4;
const SYSTEM_CHARACTERS = 96;
const MESSAGE_CHARACTERS = { min: 24, max: 96 };
/** Those of more than one turn in Mooncake's trace of conversations, by turns from 2 on; mean 2.8. */
const TURNS_WEIGHTS = [1235, 396, 168, 92, 48, 23, 34];
const WORDS = ['ada', 'lamp', 'sea', 'fog', 'bell', 'oil', 'wick', 'tide', 'boat', 'flour', 'letter', 'dusk'];

/** The conversations' turns, first turn first. */
export function conversations({ conversations: count, turns, seed }: ReplayShape): Request[][] {
  const random = seededRandom(seed);
  const systems = Array.from({ length: SYSTEM_PROMPTS }, () => words(random, SYSTEM_CHARACTERS));
  return Array.from({ length: count }, (_, conversation) => {
    const messages: Message[] = [{ role: 'system', content: systems[conversation % SYSTEM_PROMPTS]! }];
    return Array.from({ length: turns ?? drawnTurns(random) }, (_turn, turn) => {
      if (turn > 0) messages.push({ role: 'assistant', content: message(random) });
      messages.push({ role: 'user', content: message(random) });
      return { conversation, turn, messages: [...messages] };
    });
  });
}

/**
 * The turns of all conversations in one order: `live` of them go on at a time, whose turn is next is drawn, and another one
 * begins where one ends.
 */
export function interleaved(
  scripts: readonly (readonly Request[])[],
  { live = scripts.length, seed }: { readonly live?: number; readonly seed: number },
): Request[] {
  const random = seededRandom(seed);
  const left = scripts.map((turns) => [...turns]);
  const order: Request[] = [];
  while (left.length > 0) {
    const at = Math.floor(random() * Math.min(live, left.length));
    order.push(left[at]!.shift()!);
    if (left[at]!.length === 0) left.splice(at, 1);
  }
  return order;
}

function drawnTurns(random: Random): number {
  let at = random() * TURNS_WEIGHTS.reduce((sum, weight) => sum + weight);
  let turns = 2;
  for (const weight of TURNS_WEIGHTS) {
    if (at < weight) break;
    at -= weight;
    turns++;
  }
  return turns;
}

const message = (random: Random): string => {
  const { min, max } = MESSAGE_CHARACTERS;
  return words(random, min + Math.floor(random() * (max - min + 1)));
};

function words(random: Random, characters: number): string {
  let text = '';
  while (text.length < characters) text += `${WORDS[Math.floor(random() * WORDS.length)]!} `;
  return text.slice(0, characters).trimEnd();
}
