/**
 * The page at `/docs`: the places that the explorer fills from the OpenAPI document. As in page.ts no script and no style
 * stands in it, and paths are relative.
 */
export const EXPLORER_PAGE: string = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>radixkv API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="dashboard/style.css">
<script type="module" src="dashboard/browser/explorer.js"></script>
</head>
<body>
<a class="skip" href="#operations">Skip to the operations</a>
<header>
  <h1>radixkv <span>API</span></h1>
  <p id="status" role="status">Loading …</p>
  <form id="key-form" autocomplete="off">
    <label for="key">API key</label>
    <input id="key" type="password" autocomplete="off" spellcheck="false" aria-describedby="key-note">
    <button>Use key</button>
    <span id="key-note" class="note">kept in this tab only</span>
  </form>
</header>
<main id="operations" tabindex="-1"></main>
</body>
</html>
`;
