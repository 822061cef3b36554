/** The explorer: reads the API's own document, shows each operation, and tries it on this server. */
import type { Schema } from '../schema-text.js';
import { Api } from './api.js';
import { byId, html, setText } from './elements.js';
import { type ApiDocument, type OperationEntry, operationElement } from './operation-panel.js';

const api = new Api();
const status = byId('status', HTMLElement);

/** `#/components/schemas/Pin`. */
function schemaAt({ components }: ApiDocument, ref: string): Schema | undefined {
  return components.schemas[ref.split('/').at(-1) ?? ''];
}

function entriesOf({ paths, components }: ApiDocument): OperationEntry[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => {
      const parameters = (operation.parameters ?? []).map((each) =>
        '$ref' in each ? components.parameters[each.$ref.split('/').at(-1) ?? ''] : each,
      );
      return { path, method, operation, parameters: parameters.filter((each) => each !== undefined) };
    }),
  );
}

function show(document: ApiDocument): void {
  const entries = entriesOf(document);
  const main = byId('operations', HTMLElement);
  for (const { name, description } of document.tags) {
    const own = entries.filter(({ operation }) => operation.tags.includes(name));
    if (own.length === 0) continue;
    const id = `tag-${name}`;
    main.append(
      html(
        'section',
        { class: 'wide', 'aria-labelledby': id },
        html('h2', { id }, name),
        html('p', { class: 'note' }, description),
        ...own.map((entry) => operationElement(api, entry, (ref) => schemaAt(document, ref))),
      ),
    );
  }
  setText(status, `Version ${document.info.version}, ${entries.length} operations`);
}

const key = byId('key', HTMLInputElement);
key.value = api.key;
byId('key-form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  api.key = key.value.trim();
});

try {
  show(await api.json<ApiDocument>('openapi.json'));
} catch (error) {
  status.classList.add('bad');
  setText(status, `No document (${String(error)})`);
}
