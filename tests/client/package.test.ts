/** The client as others get it: from the packed package, in a project of their own, and in a browser. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CHROMIUM, launch, newPage } from '../dashboard/browser.js';
import { fuzzedServer } from '../support/fuzzed-server.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

const COMPILER_OPTIONS = {
  target: 'es2023',
  lib: ['es2023'],
  module: 'nodenext',
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  types: ['node'],
};

/** A project with the packed package in it, and beside it what npm would have installed with it. */
async function project(t: { after(hook: () => Promise<unknown>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'radixkv-client-'));
  t.after(() => rm(folder, { recursive: true }));
  const { stdout } = await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: ROOT });
  const installed = join(folder, 'node_modules', 'radixkv');
  await mkdir(installed, { recursive: true });
  await run('tar', ['-xzf', join(folder, stdout.trim()), '-C', installed, '--strip-components=1']);
  const { dependencies } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
  for (const name of ['@types/node', ...Object.keys(dependencies)]) {
    const place = join(folder, 'node_modules', name);
    await mkdir(dirname(place), { recursive: true });
    await symlink(join(ROOT, 'node_modules', name), place);
  }
  await writeFile(join(folder, 'package.json'), '{"type": "module"}');
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions: COMPILER_OPTIONS }));
  await cp(join(ROOT, 'tests/client/sample.ts'), join(folder, 'sample.ts'));
  return folder;
}

test('a project that has the package type-checks and runs with the client', async (t) => {
  const folder = await project(t);
  const server = await fuzzedServer(t);
  await run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', folder]).catch(
    ({ stdout }: { stdout: string }) => assert.fail(stdout),
  );
  const { stdout } = await run(process.execPath, [join(folder, 'sample.js'), server.url]);
  assert.deepEqual(JSON.parse(stdout), {
    status: 'done',
    cached: true,
    events: true,
    code: 'not_found',
    unused: 5,
  });
});

test('the client runs in a browser', {
  skip: CHROMIUM === undefined && 'no Chromium on this machine',
}, async (t) => {
  const server = await fuzzedServer(t);
  const browser = await launch();
  t.after(() => browser.close());
  const { page, complaints } = await newPage(t, browser);
  await page.route('**/client/*.js', async (route) => {
    const name = new URL(route.request().url()).pathname.slice('/client/'.length);
    const body = await readFile(join(ROOT, 'dist/src/client', name), 'utf8');
    await route.fulfill({ contentType: 'text/javascript', body });
  });
  await page.goto(`${server.url}/dashboard`);
  const [id, code, type] = await page.evaluate<[string, string, string]>(`(async () => {
    const { RadixkvClient } = await import('/client/index.js');
    const client = new RadixkvClient({ baseUrl: location.origin, apiKey: 'sk-page' });
    const [model] = (await client.models.list()).data;
    await client.documents.put('lamp', { text: 'Ada lit the lamp of the island at dusk.' });
    await client.documents.wait('lamp');
    const refused = await client.documents.get('boat').catch((error) => error);
    await client.pins.create({ model: model.id, prompt: 'Ada lit the lamp of the island at dusk.' });
    for await (const event of client.events({ after: 0 })) return [model.id, refused.code, event.type];
  })()`);
  assert.deepEqual([id, code], ['model', 'document_not_found']);
  assert.match(type, /^BlockStored$/);
  assert.deepEqual(
    complaints.filter((each) => !each.includes('404')),
    [],
  );
});
