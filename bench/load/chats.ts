/**
 * The traffic of a mixed load: clients that come as a Poisson process, and hold a chat of some turns each. The same seed
 * gives the same traffic.
 */
import { type Random, seededRandom } from '../../src/engine/random.js';
import { sentences } from './text.js';

export interface LoadShape {
  readonly clients: number;
  readonly turns: number;
  /** Between the beginnings of two chats, on average. */
  readonly gapMs: number;
  /** Between an answer and the next message: evenly spread. */
  readonly thinkMs: { readonly min: number; readonly max: number };
  readonly seed: number;
}

export interface Turn {
  readonly message: string;
  /** What the client waits before it sends it: since the answer before, or since the beginning. */
  readonly waitMs: number;
}

export type Chat = readonly Turn[];

/** About 50 tokens with the question behind them. */
const MESSAGE_SENTENCES = 2;

export function planChats({ clients, turns, gapMs, thinkMs, seed }: LoadShape): Chat[] {
  const random = seededRandom(seed);
  let beginMs = 0;
  return Array.from({ length: clients }, (_, client) => {
    if (client > 0) beginMs += exponential(random, gapMs);
    const waits = [beginMs];
    while (waits.length < turns) waits.push(thinkMs.min + random() * (thinkMs.max - thinkMs.min));
    return waits.map((waitMs) => ({ message: message(random), waitMs }));
  });
}

function message(random: Random): string {
  return `${sentences(random, MESSAGE_SENTENCES)} What do you advise?`;
}

function exponential(random: Random, mean: number): number {
  return -Math.log(1 - random()) * mean;
}
