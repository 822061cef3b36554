/** What SQLite says of the catalogue that a killed server left behind. Looks at a copy: opening it would repair it. */
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Sqlite from 'better-sqlite3';

const FILE = 'catalogue.sqlite';

/** Nothing when there is no catalogue yet. */
export async function catalogueProblems(directory: string): Promise<unknown[]> {
  const names = (await readdir(directory).catch(() => [])).filter((name) => name.startsWith(FILE));
  if (!names.includes(FILE)) return [];
  const copy = await mkdtemp(join(tmpdir(), 'radixkv-catalogue-'));
  try {
    for (const name of names) await copyFile(join(directory, name), join(copy, name));
    const database = new Sqlite(join(copy, FILE));
    const problems = database.pragma('integrity_check');
    database.close();
    return Array.isArray(problems)
      ? problems.filter((problem) => problem.integrity_check !== 'ok')
      : [problems];
  } finally {
    await rm(copy, { recursive: true, force: true });
  }
}
