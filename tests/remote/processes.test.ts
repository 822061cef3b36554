/** Two server processes over one Redis, by command and public API: tenants are shared by the file of keys. */
import assert from 'node:assert/strict';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RedisServer, until } from '../../bench/redis-server.js';
import { ServerProcess } from '../../bench/server-process.js';
import { importTiny, TINY } from '../../bench/tiny.js';
import { KEYS_FILE, KeyFile } from '../../src/tenants/key-file.js';
import { redisTest } from '../support/redis-test.js';

const PROMPT =
  'the same words in two processes, which are long enough to fill several chunks of KV by themselves';

/** A key of the tenant `acme` in the file of a data directory. */
function createKey(directory: string): string {
  const file = KeyFile.open(join(directory, KEYS_FILE));
  const text = file.createKey({ tenant: 'acme', role: 'user' }, Date.now());
  file.close();
  return text;
}

redisTest(
  'two processes with the same file of keys share what a tenant has, one with other keys has nothing of it',
  async (t) => {
    const place = await mkdtemp(join(tmpdir(), 'radixkv-processes-'));
    const redis = await RedisServer.start(t);
    const modelsDir = join(place, 'models');
    await importTiny(modelsDir);
    const directories = ['a', 'b', 'c'].map((name) => join(place, name));
    for (const directory of directories) await mkdir(directory);
    const shared = createKey(directories[0]!);
    await copyFile(join(directories[0]!, KEYS_FILE), join(directories[1]!, KEYS_FILE));
    const other = createKey(directories[2]!);
    const servers: ServerProcess[] = [];
    t.after(async () => {
      await Promise.all(servers.map((server) => server.kill()));
      await rm(place, { recursive: true, force: true });
    });
    for (const directory of directories) {
      const server = new ServerProcess(TINY, {
        'models-dir': modelsDir,
        'data-dir': directory,
        'disk-bytes': 0,
        'chunk-tokens': 16,
        'remote-deadline-min-ms': 20_000,
        'remote-deadline-ms': 20_000,
        remote: redis.url,
      });
      servers.push(server);
      await server.ready();
    }
    const question = { prompt: PROMPT, maxTokens: 8 };
    const cold = await servers[0]!.ask({ ...question, apiKey: shared });
    const whole = Math.floor((PROMPT.length - 1) / 16);
    await until(async () => (await redis.chunks()).length >= whole, 'it is written');
    const warm = await servers[1]!.ask({ ...question, apiKey: shared });
    assert.equal(warm.cached.remote, whole * 16);
    assert.deepEqual([warm.text, warm.logprobs], [cold.text, cold.logprobs]);
    const foreign = await servers[2]!.ask({ ...question, apiKey: other });
    assert.deepEqual(foreign.cached, { device: 0, host: 0, disk: 0, remote: 0 });
  },
);
