/** The page and its files as they are served, without a browser. */
import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { test } from 'node:test';
import supertest from 'supertest';
import { fakeApp } from '../support/fake-app.js';

const { app } = fakeApp();
const http = supertest(app);

for (const path of ['/dashboard', '/docs'])
  test(`the page at ${path} has no script or style of its own, and the policy allows none`, async () => {
    const { text, headers } = await http
      .get(path)
      .expect(200)
      .expect('content-type', /^text\/html/);
    assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|<script[^>]*>[^<]/);
    assert.doesNotMatch(text, /(?:src|href)="(?:https?:)?\/\//);
    const policy = headers['content-security-policy']!;
    assert.match(policy, /script-src 'self';/);
    assert.match(policy, /style-src 'self'(;|$)/);
    assert.doesNotMatch(policy, /unsafe|https:/);
  });

for (const page of ['/dashboard', '/docs'])
  test(`every file that the page at ${page} and its scripts name is served with its type`, async () => {
    const { text } = await http.get(page);
    const paths = [...text.matchAll(/(?:src|href)="(dashboard\/[^"]+)"/g)].map(([, path]) => `/${path}`);
    assert.equal(paths.length, 2);
    for (const path of paths) {
      const type = path.endsWith('.css') ? /^text\/css/ : /^text\/javascript/;
      const file = await http.get(path).expect(200).expect('content-type', type);
      const imports = [...file.text.matchAll(/from '(\.[^']+)'/g)];
      for (const [, specifier] of imports) {
        const { pathname } = new URL(specifier!, `http://localhost${path}`);
        if (!paths.includes(pathname)) paths.push(pathname);
      }
    }
    const deep =
      page === '/docs' ? ['operation-panel.js', '../schema-text.js'] : ['tree-panel.js', '../icicle.js'];
    for (const name of deep) assert(paths.includes(posix.join('/dashboard/browser', name)));
  });

test('with a slash behind it, the page is where it is without', async () => {
  await http.get('/dashboard/').expect(308).expect('location', '../dashboard');
  await http.get('/docs/').expect(308).expect('location', '../docs');
});

test('nothing but its files is served below it', async () => {
  for (const path of [
    'nothing.js',
    'browser',
    'browser/',
    'main.ts',
    '.tsbuildinfo',
    'index.d.ts',
    'browser/main.js.map',
    '..%2fsrc%2fserver.js',
    'browser/..%2f..%2fsrc%2fserver.js',
    '%2e%2e/src/cli/main.js',
  ]) {
    const { body } = await http.get(`/dashboard/${path}`).expect(404);
    assert.equal(body.error.code, 'not_found', path);
  }
  await http.post('/dashboard').expect(405).expect('allow', 'GET');
  await http.post('/dashboard/style.css').expect(405).expect('allow', 'GET');
});
