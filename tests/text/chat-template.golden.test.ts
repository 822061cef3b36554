/** Rendered prompts against Python's Jinja2 (tests/golden/make_chat_golden.py). */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { RadixkvError } from '../../src/errors.js';
import type { ChatMessage } from '../../src/serving/completion.js';
import { ChatTemplate } from '../../src/text/chat-template.js';
import { golden, parse } from './fixtures.js';

interface Case {
  template: string;
  messages: ChatMessage[];
  addGenerationPrompt: boolean;
  text?: string;
  error?: string;
}
const { templates, cases } = parse<{
  templates: Record<string, string>;
  cases: Case[];
}>(readFileSync(golden('chat-template.json'), 'utf8'));

for (const [name, source] of Object.entries(templates)) {
  test(`the ${name} template renders as Jinja2 renders it`, () => {
    const template = new ChatTemplate(source, { bos_token: '<s>', eos_token: '</s>' });
    for (const { messages, addGenerationPrompt, text, error } of cases.filter(
      (one) => one.template === name,
    )) {
      const render = (): string => template.render(messages, { addGenerationPrompt });
      if (error === undefined) assert.equal(render(), text);
      else {
        assert.throws(
          render,
          (thrown: unknown) =>
            thrown instanceof RadixkvError &&
            thrown.code === 'invalid_value' &&
            thrown.message.includes(error),
        );
      }
    }
  });
}
