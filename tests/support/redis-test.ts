/** Tests that need a Redis of their own; skipped, visibly, where there is none to start. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type TestContext, test } from 'node:test';

const folders = (process.env.PATH ?? '').split(delimiter);

export const HAS_REDIS = folders.some((folder) => existsSync(join(folder, 'redis-server')));

export function redisTest(name: string, run: (t: TestContext) => Promise<void>): void {
  void test(name, { skip: !HAS_REDIS && 'redis-server is not installed' }, run);
}
