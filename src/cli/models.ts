/** The model commands, and the step of `serve` that makes sure its model is there. */
import { join } from 'node:path';
import { formatBytes } from '../config/bytes.js';
import type { ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import { systemClock } from '../model/clock.js';
import { importModel } from '../model/importer.js';
import { outdated } from '../model/manifest.js';
import { ModelRegistry, type RegisteredModel } from '../model/registry.js';
import { DEFAULT_MODEL } from '../model/source/default-model.js';
import { hubFromEnvironment } from '../model/source/hub.js';
import { parseSource, resolveSource, suggestName } from '../model/source/source.js';
import { tableLines } from './table.js';
import type { Terminal } from './terminal.js';

export function openRegistry(options: ServeOptions): ModelRegistry {
  return new ModelRegistry({ directory: options.modelsDir, importModel, clock: systemClock });
}

/** `radixkv model import`. */
export async function runImport(
  sourceText: string,
  options: ServeOptions,
  choices: { readonly name: string | undefined; readonly force: boolean },
  terminal: Terminal,
): Promise<void> {
  const registry = openRegistry(options);
  const source = parseSource(sourceText);
  const name = choices.name ?? suggestName(source);
  if (!choices.force && (await registry.find(name)) !== undefined) {
    terminal.print(`${name} is imported already; --force imports it again, --name gives it another name`);
    return;
  }
  await importInto(registry, { name, sourceText, replace: choices.force }, options, terminal);
  terminal.print(`serve it with: radixkv serve --model ${name}`);
}

/** `radixkv model list`. */
export async function runList(options: ServeOptions, json: boolean, terminal: Terminal): Promise<void> {
  const models = await openRegistry(options).list();
  if (json) {
    const rows = models.map((model) => ({ ...model, bytes: bytesOf(model) }));
    terminal.print(JSON.stringify(rows, null, 2));
    return;
  }
  if (models.length === 0) {
    terminal.print(
      `no models in ${options.modelsDir}; import one with: radixkv model import ${DEFAULT_MODEL.alias}`,
    );
    return;
  }
  const rows = models.map((model) => [
    model.name,
    formatBytes(bytesOf(model)),
    model.weights,
    model.importedAt.slice(0, 10),
    model.source,
  ]);
  for (const line of tableLines([['NAME', 'SIZE', 'WEIGHTS', 'IMPORTED', 'SOURCE'], ...rows]))
    terminal.print(line);
}

/** `radixkv model remove`. @throws RadixkvError `model_not_found`. */
export async function runRemove(name: string, options: ServeOptions, terminal: Terminal): Promise<void> {
  if (!(await openRegistry(options).remove(name))) throw await notFound(openRegistry(options), name, options);
  terminal.print(`removed ${name}`);
}

/**
 * The model to serve, imported first where that is possible: the default model when it is missing, and any model
 * whose files are damaged or outdated, or that was imported with other weights than asked for.
 *
 * @throws RadixkvError `model_not_found`, or what the download or the import throws.
 */
export async function ensureModel(
  registry: ModelRegistry,
  options: ServeOptions,
  terminal: Terminal,
): Promise<RegisteredModel> {
  const name = options.model;
  const model = await registry.find(name);
  if (model === undefined) {
    if (name !== DEFAULT_MODEL.alias) throw await notFound(registry, name, options);
    terminal.note(`${name} is not in ${options.modelsDir} yet: getting and importing it once`);
    return importInto(registry, { name, sourceText: name, replace: false }, options, terminal);
  }
  const problems = await registry.verify(model, 'sizes');
  const otherWeights = options.weights !== 'auto' && options.weights !== model.weights;
  const problem = problems[0] ?? (await outdated(model.directory));
  if (problem === undefined && !otherWeights) return model;
  const why = problem ?? `it is here with weights ${model.weights}, asked for is ${options.weights}`;
  terminal.note(`importing ${name} again: ${why}`);
  return importInto(registry, { name, sourceText: model.source, replace: true }, options, terminal);
}

async function importInto(
  registry: ModelRegistry,
  request: { readonly name: string; readonly sourceText: string; readonly replace: boolean },
  options: ServeOptions,
  terminal: Terminal,
): Promise<RegisteredModel> {
  const source = parseSource(request.sourceText);
  const startedAt = Date.now();
  const model = await registry.import({
    name: request.name,
    // An absolute path, so that the model can be imported again from anywhere.
    source: source.kind === 'local' ? source.path : request.sourceText,
    weights: options.weights,
    replace: request.replace,
    locate: () =>
      resolveSource(source, {
        downloadsDirectory: join(options.dataDir, 'downloads'),
        hub: hubFromEnvironment(process.env, systemClock),
        onProgress: terminal.progress,
        onNotice: (message) => terminal.note(message),
      }),
    onProgress: terminal.progress,
    onWait: () => terminal.note(`another process is importing ${request.name}; waiting for it`),
  });
  const seconds = Math.round((Date.now() - startedAt) / 100) / 10;
  terminal.note(`imported ${model.name} (${formatBytes(bytesOf(model))}) in ${seconds} s`);
  return model;
}

/** Bytes of all files of a model. */
export function bytesOf(model: RegisteredModel): number {
  return model.files.reduce((sum, file) => sum + file.bytes, 0);
}

async function notFound(registry: ModelRegistry, name: string, options: ServeOptions): Promise<RadixkvError> {
  const names = (await registry.list()).map((model) => model.name);
  const there = names.length === 0 ? 'there are none' : `there are ${names.join(', ')}`;
  const advice = `import one with: radixkv model import <source> --name ${name}`;
  return new RadixkvError(
    'model_not_found',
    `no model "${name}" in ${options.modelsDir} (${there}); ${advice}`,
  );
}
