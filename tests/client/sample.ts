/** What a project of its own would write: checked by the compiler against the packed types, and run. */
import { type CacheEvent, RadixkvApiError, RadixkvClient } from 'radixkv/client';

const client = new RadixkvClient({ baseUrl: process.argv[2] ?? '', apiKey: 'sk-sample', timeoutMs: 30_000 });
const [model] = (await client.models.list()).data;
if (model === undefined) throw new Error('nothing is served');

const prompt = 'The lamp of the island burns rape oil, and Ada Brook lights it at dusk.';
const job = await client.warming.start({ model: model.id, prompts: [{ prompt }] });
const done = await client.warming.wait(job.id, { pollMs: 20 });
const { cached_tokens, by_tier } = await client.lookup({ model: model.id, prompt });
const hits: number = by_tier.device + by_tier.host + by_tier.disk;
const events: CacheEvent[] = [];
for await (const event of client.events({ after: 0 })) {
  events.push(event);
  if (event.type === 'BlockStored' && event.token_ids.length > 0) break;
}
let code: string | undefined;
try {
  await client.pins.get('none');
} catch (error) {
  if (error instanceof RadixkvApiError) code = error.code;
}

type Question = Parameters<typeof client.lookup>[0];
type Order = Parameters<typeof client.documents.put>[1];
type Window = Parameters<typeof client.windowStatistics>[0];
const content = '';
// @ts-expect-error a prompt is needed
const missing: Question = { model: '' };
// @ts-expect-error one of the two is
const both: Question = { model: '', prompt, messages: [] };
// @ts-expect-error there is no such role
const role: Question = { model: '', messages: [{ content, role: '' }] };
// @ts-expect-error nor such a field
const field: Order = { text: '', tenant: '' };
// @ts-expect-error nor such a window
const query: Window = { window: '2m' };

console.log(
  JSON.stringify({
    status: done.status,
    cached: cached_tokens === hits && hits > 0,
    events: events.length > 0,
    code,
    unused: [missing, both, role, field, query].length,
  }),
);
