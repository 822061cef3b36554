import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import Database from 'better-sqlite3';
import { DocumentLibrary } from '../../src/documents/library.js';
import { MIGRATIONS } from '../../src/documents/migrations.js';
import { assertRefused } from '../support/refused.js';
import { type Shelf, shelf } from './fixtures.js';

const SECRET = 'the tide is high at noon';
const KEY = new Uint8Array(32).fill(7);
const OTHER_KEY = new Uint8Array(32).fill(8);

const contents = ({ directory }: Shelf): string =>
  readdirSync(directory)
    .map((name) => readFileSync(join(directory, name), 'latin1'))
    .join();

suite('the file of a library', () => {
  test('is readable by its owner only, and so is what SQLite puts beside it', (t) => {
    const made = shelf(t);
    made.put('a', SECRET);
    const names = readdirSync(made.directory);
    assert.ok(names.length > 1, 'a log beside the file');
    for (const name of names) assert.equal(statSync(join(made.directory, name)).mode & 0o077, 0, name);
  });

  test('belongs to one process', async (t) => {
    const { file, clock, passages } = shelf(t);
    await assertRefused('invalid_value', /another process/, async () =>
      DocumentLibrary.open({ file, clock, passages }),
    );
  });

  test('of a newer release is refused, and left as it is', async (t) => {
    const made = shelf(t);
    await made.library.close();
    const database = new Database(made.file);
    database.pragma(`user_version = ${MIGRATIONS.length + 1}`);
    database.close();
    await assertRefused('invalid_value', /newer release/, async () => made.open());
    const again = new Database(made.file);
    again.pragma(`user_version = ${MIGRATIONS.length}`);
    again.close();
    made.open();
  });

  test('that is corrupt is set aside, and begun anew', async (t) => {
    const made = shelf(t);
    made.put('a', SECRET);
    await made.library.close();
    writeFileSync(made.file, 'no database at all '.repeat(500));
    made.open();
    assert.equal(made.library.find('', 'a'), undefined);
    made.put('a', SECRET);
    assert.ok(existsSync(`${made.file}.corrupt`));
  });

  test('that can not be made is refused by its reason', async (t) => {
    const { clock, passages, directory } = shelf(t);
    const file = join(directory, 'missing', 'documents.sqlite');
    await assertRefused('invalid_value', /library of documents.*ENOENT/, async () =>
      DocumentLibrary.open({ file, clock, passages }),
    );
  });
});

suite('with an encryption key', () => {
  test('no text and no title is in the files, as they are without one', async (t) => {
    const open = shelf(t);
    open.put('a', SECRET, { passage: { title: 'Tides', text: SECRET } });
    await open.library.close();
    assert.ok(contents(open).includes(SECRET));
    open.open();
    const sealed = shelf(t, { encryptionKey: KEY });
    sealed.put('a', SECRET, { passage: { title: 'Tides', text: SECRET } });
    await sealed.library.close();
    assert.ok(!contents(sealed).includes(SECRET) && !contents(sealed).includes('Tides'));
    sealed.open();
    assert.deepEqual(sealed.library.find('', 'a'), { title: 'Tides', text: SECRET });
  });

  test('the documents of another key are not seen until it is back, or they are replaced', async (t) => {
    const made = shelf(t, { encryptionKey: KEY });
    made.put('a', SECRET);
    made.put('b', SECRET);
    await made.settled('b');
    for (const options of [{ encryptionKey: OTHER_KEY }, {}]) {
      await made.reopen(options);
      assert.equal(made.library.find('', 'a'), undefined);
      assert.deepEqual(made.library.list('', { limit: 9, after: undefined }).documents, []);
    }
    made.put('b', 'something else');
    await made.reopen();
    assert.equal(made.library.find('', 'a')!.text, SECRET);
    assert.equal(made.library.find('', 'b'), undefined);
  });

  test('a row that was moved to another document is not read as that one', async (t) => {
    const made = shelf(t, { encryptionKey: KEY });
    made.put('a', SECRET);
    made.put('b', 'something else');
    await made.settled('b');
    await made.library.close();
    const database = new Database(made.file);
    database.exec(
      `UPDATE documents SET passage = (SELECT passage FROM documents WHERE id = 'a') WHERE id = 'b'`,
    );
    database.close();
    made.open();
    assert.equal(made.library.find('', 'b'), undefined);
    assert.equal(made.library.find('', 'a')!.text, SECRET);
  });
});
