/**
 * Style the compiler can't check: who may import what, files nobody imports, opening comments, open ends without an
 * issue number. A rule takes all source files (path → text) and returns what breaks it.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { test } from 'node:test';

type Sources = ReadonlyMap<string, string>;
type Rule = (sources: Sources) => string[];

const FOLDERS = ['radix', 'storage', 'blend', 'dashboard', 'src', 'tests', 'bench'];

/** What a library may import beside its own files. The others may import any package and every library. */
const LIBRARY_IMPORTS: Readonly<Record<string, readonly string[]>> = {
  radix: ['node:assert/strict'],
  storage: [
    'node:assert/strict',
    'node:crypto',
    'node:fs',
    'node:fs/promises',
    'node:path',
    'node:timers/promises',
    'node:worker_threads',
    '@redis/client',
    'better-sqlite3',
    'flatqueue',
    'lru-cache',
    'xxhash-wasm',
  ],
  blend: ['node:assert/strict', '#storage'],
  dashboard: [],
};

/** Folders whose files may be imported by path from another folder. */
const OPEN_FOLDERS: Readonly<Record<string, readonly string[]>> = {
  tests: ['radix', 'storage', 'blend', 'dashboard', 'src', 'bench'],
  bench: ['src'],
};

const ENTRY_POINTS = [
  /^src\/cli\/main\.ts$/,
  /^dashboard\/browser\/(main|explorer)\.ts$/,
  /^src\/client\/index\.ts$/,
  /^tests\/client\/sample\.ts$/,
  /\.(worker|process)\.ts$/,
  /^tests\/.*\.test\.ts$/,
  /^tests\/gpu\/.*\.suite\.ts$/,
  /^bench\/main\.ts$/,
];

const folderOf = (path: string): string => path.split('/')[0]!;

function importsOf(text: string): string[] {
  const specifiers = text.matchAll(/(?:^|[\s;}])(?:from|import)[ (]*'([^'\n]+)'/g);
  return [...specifiers].map((match) => match[1]!);
}

/** The source file that a relative import or a library's alias names; undefined for packages. */
function fileOf(specifier: string, importer: string): string | undefined {
  if (specifier.startsWith('#')) return `${specifier.slice(1)}/index.ts`;
  if (!specifier.startsWith('.')) return undefined;
  return posix.join(posix.dirname(importer), specifier).replace(/\.js$/, '.ts');
}

const rules: Record<string, Rule> = {
  'a library imports only what it is allowed to': (sources) =>
    [...sources].flatMap(([path, text]) => {
      const allowed = LIBRARY_IMPORTS[folderOf(path)];
      if (allowed === undefined) return [];
      const foreign = importsOf(text).filter((name) => !name.startsWith('.') && !allowed.includes(name));
      return foreign.map((name) => `${path} imports ${name}`);
    }),

  'only the index of another folder is imported': (sources) =>
    [...sources].flatMap(([path, text]) => {
      const open = [folderOf(path), ...(OPEN_FOLDERS[folderOf(path)] ?? [])];
      const deep = importsOf(text).filter(
        (name) => name.startsWith('.') && !open.includes(folderOf(fileOf(name, path)!)),
      );
      return deep.map((name) => `${path} imports ${name}`);
    }),

  'at run time the client needs only itself': (sources) =>
    [...sources].flatMap(([path, text]) => {
      if (!path.startsWith('src/client/')) return [];
      const statements = text.matchAll(/^(?:import|export) (?!type )(?:[^;']*? from )?'([^'\n]+)'/gm);
      const foreign = [...statements].map(([, name]) => name!).filter((name) => !name.startsWith('./'));
      return foreign.map((name) => `${path} imports ${name}`);
    }),

  'every file is an entry point or imported': (sources) => {
    const reached = new Set<string>();
    for (const [path, text] of sources) {
      for (const name of importsOf(text)) reached.add(fileOf(name, path) ?? name);
    }
    const paths = [...sources.keys()];
    return paths.filter((path) => !reached.has(path) && !ENTRY_POINTS.some((entry) => entry.test(path)));
  },

  'every file opens with a comment, but for tests and lists of exports': (sources) =>
    [...sources]
      .filter(([path, text]) => !/(\.test|\/index)\.ts$/.test(path) && !/^(#!.*\n)?\/[/*]/.test(text))
      .map(([path]) => path),

  'an open end names its issue': (sources) =>
    [...sources].filter(([, text]) => /\b(T[O]DO|F[I]XME)\b(?!\(#\d+\))/.test(text)).map(([path]) => path),
};

function projectSources(): Sources {
  const root = new URL('../../', import.meta.url);
  const sources = new Map<string, string>();
  for (const folder of FOLDERS) {
    for (const name of readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' })) {
      const path = posix.join(folder, name.replaceAll('\\', '/'));
      if (path.endsWith('.ts') && !path.includes('/node_modules/'))
        sources.set(path, readFileSync(new URL(path, root), 'utf8'));
    }
  }
  return sources;
}

const project = projectSources();
for (const [name, rule] of Object.entries(rules)) {
  test(name, () => assert.deepEqual(rule(project), []));
}

test('each rule finds its planted offender, and nothing else', () => {
  const openEnd = ['TO', 'DO'].join('');
  const planted = new Map([
    ['radix/index.ts', "import 'express';\nimport { a } from './a.js';\nimport type { B } from '#storage';"],
    ['radix/a.ts', `// ${openEnd}(#3) numbered\nimport assert from 'node:assert/strict';`],
    ['storage/index.ts', "export { a } from '../radix/a.js';"],
    ['src/cli/main.ts', "#!/usr/bin/env node\n// Runs.\nawait import('#radix');\nimport pino from 'pino';"],
    ['src/lonely.ts', '/** Imported by nobody. */'],
    ['src/engine.worker.ts', `// ${openEnd} later`],
    ['src/bare.ts', 'export {};'],
    [
      'src/client/index.ts',
      "// Runs.\nimport type { A } from '../src/bare.js';\nexport { ERRORS } from '../src/errors.js';\nimport 'zod';",
    ],
    ['tests/a.test.ts', "import { deep } from '../radix/a.js';\nimport '../src/bare.js';"],
  ]);
  assert.deepEqual(
    Object.values(rules).map((rule) => rule(planted)),
    [
      ['radix/index.ts imports express', 'radix/index.ts imports #storage'],
      ['storage/index.ts imports ../radix/a.js'],
      ['src/client/index.ts imports ../src/errors.js', 'src/client/index.ts imports zod'],
      ['src/lonely.ts'],
      ['src/bare.ts'],
      ['src/engine.worker.ts'],
    ],
  );
});
