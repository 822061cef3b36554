/**
 * `GET /dashboard`: a page for operators, its style and its scripts. The scripts are the compiled files of the dashboard,
 * read from beside this one when they are first asked for. The page asks for data by the other routes, with the key that
 * its user types in; there is nothing secret in it.
 */
import { readFile } from 'node:fs/promises';
import type { RequestHandler } from 'express';
import { PAGE, STYLE } from '#dashboard';
import { RadixkvError } from '../errors.js';

const COMPILED = new URL('../../dashboard/', import.meta.url);

/** What scripts may be named: no dots but the last one, so that no path leaves the folder. */
const SCRIPT = /^(?:browser\/)?[a-z-]+\.js$/;

export function dashboard(): {
  readonly page: RequestHandler;
  readonly file: RequestHandler<{ path: string[] }>;
} {
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
  return {
    page: (req, res) => {
      // Paths in the page are relative to where it stands.
      if (req.path.endsWith('/')) res.redirect(308, '../dashboard');
      else res.set('cache-control', 'no-cache').type('html').send(PAGE);
    },
    file: async (req, res) => {
      const name = req.params.path.join('/');
      const isStyle = name === 'style.css';
      const text = isStyle ? STYLE : await scriptOf(name);
      if (text === undefined) throw new RadixkvError('not_found', `There is no GET ${req.path}.`);
      res
        .set('cache-control', 'no-cache')
        .type(isStyle ? 'css' : 'js')
        .send(text);
    },
  };
}
