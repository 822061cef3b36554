/** What the pages have in common: their head, and the form for the key. */

/** @param script of `dashboard/browser/` */
export function pageHead(title: string, script: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="dashboard/style.css">
<script type="module" src="dashboard/browser/${script}"></script>
</head>`;
}

export const KEY_FORM = `  <form id="key-form" autocomplete="off">
    <label for="key">API key</label>
    <input id="key" type="password" autocomplete="off" spellcheck="false" aria-describedby="key-note">
    <button>Use key</button>
    <span id="key-note" class="note">kept in this tab only</span>
  </form>`;
