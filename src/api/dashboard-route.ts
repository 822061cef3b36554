/**
 * `GET /dashboard` and `GET /docs`: pages for people, their style and their scripts. The scripts are the compiled files of
 * the dashboard, read from beside this one when they are first asked for. The pages ask for data by the other routes, with
 * the key that their user types in; there is nothing secret in them.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { EXPLORER_PAGE, PAGE, STYLE } from '#dashboard';
import { RadixkvError } from '../errors.js';
import { type Answer, type Operation, operation } from './operation.js';

const COMPILED = new URL('../../dashboard/', import.meta.url);

/** What scripts may be named: no dots but the last one, so that no path leaves the folder. */
const SCRIPT = /^(?:browser\/)?[a-z-]+\.js$/;

const PAGES = {
  dashboard: { html: PAGE, summary: 'The dashboard: a page for operators.' },
  docs: { html: EXPLORER_PAGE, summary: 'The explorer: a page to read and try the API.' },
} as const;

const html: Answer = { description: 'The page.', content: { 'text/html': z.string() } };

function pageOperation(name: keyof typeof PAGES): Operation {
  const { html: text, summary } = PAGES[name];
  return operation({
    id: name === 'docs' ? 'getExplorer' : 'getDashboard',
    method: 'get',
    path: `/${name}`,
    tag: 'server',
    summary,
    isOpen: true,
    answers: { 200: html },
    handle: ({ req, res }) => {
      // Paths in the page are relative to where it stands.
      if (req.path.endsWith('/')) res.redirect(308, `../${name}`);
      else res.set('cache-control', 'no-cache').type('html').send(text);
    },
  });
}

/** Open to all. */
export function pageOperations(): Operation[] {
  const scripts = new Map<string, Promise<string>>();
  /** Undefined: there is none of that name. */
  const scriptOf = (name: string): Promise<string | undefined> => {
    if (!SCRIPT.test(name)) return Promise.resolve(undefined);
    const text = scripts.get(name) ?? readFile(new URL(name, COMPILED), 'utf8');
    scripts.set(name, text);
    return text.catch(() => {
      scripts.delete(name);
      return undefined;
    });
  };
  return [
    pageOperation('dashboard'),
    pageOperation('docs'),
    operation({
      id: 'getPageFile',
      method: 'get',
      path: '/dashboard/*path',
      tag: 'server',
      summary: 'The style and the scripts of the pages.',
      isOpen: true,
      params: z.object({ path: z.array(z.string()).transform((parts) => parts.join('/')) }),
      answers: {
        200: { description: 'The file.', content: { 'text/css': z.string(), 'text/javascript': z.string() } },
      },
      errors: ['not_found'],
      example: { params: { path: 'style.css' } },
      handle: async ({ params, req, res }) => {
        const isStyle = params.path === 'style.css';
        const text = isStyle ? STYLE : await scriptOf(params.path);
        if (text === undefined) throw new RadixkvError('not_found', `There is no GET ${req.path}.`);
        res
          .set('cache-control', 'no-cache')
          .type(isStyle ? 'css' : 'js')
          .send(text);
      },
    }),
  ];
}
