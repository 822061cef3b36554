/** Drives a server with chats: each client sends its messages with all that was said before, and reads its answers. */
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI from 'openai';
import { type Answer, type AnswerOptions, streamAnswer } from './answer.js';
import type { Chat } from './chats.js';
import type { LoadServer } from './servers.js';

export interface DriveOptions extends Omit<AnswerOptions, 'model'> {
  readonly chats: readonly Chat[];
  readonly system: string;
}

/** @returns the answers of each chat, in the order of its turns */
export function drive(server: LoadServer, { chats, system, ...options }: DriveOptions): Promise<Answer[][]> {
  const client = new OpenAI({ baseURL: new URL('/v1', server.url).href, apiKey: 'none', maxRetries: 0 });
  return Promise.all(
    chats.map(async (chat) => {
      const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'system', content: system }];
      const answers: Answer[] = [];
      for (const { message, waitMs } of chat) {
        await sleep(waitMs);
        messages.push({ role: 'user', content: message });
        const answer = await streamAnswer(client, messages, { model: server.model, ...options });
        messages.push({ role: 'assistant', content: answer.text });
        answers.push(answer);
      }
      return answers;
    }),
  );
}
