/**
 * The page at `/docs`: the places that the explorer fills from the OpenAPI document. As in page.ts no script and no style
 * stands in it, and paths are relative.
 */
import { KEY_FORM, pageHead } from './page-frame.js';

export const EXPLORER_PAGE: string = `${pageHead('radixkv API', 'explorer.js')}
<body>
<a class="skip" href="#operations">Skip to the operations</a>
<header>
  <h1>radixkv <span>API</span></h1>
  <p id="status" role="status">Loading …</p>
${KEY_FORM}
</header>
<main id="operations" tabindex="-1"></main>
</body>
</html>
`;
