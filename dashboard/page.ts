/**
 * The page at `/dashboard`: its landmarks, headings, and the places that scripts fill by their ids.
 *
 * No script and no style stands in it, so that the policy of the server can forbid both. Paths are relative: the page
 * also works below a path of a proxy.
 */
import { KEY_FORM, pageHead } from './page-frame.js';

export const PAGE: string = `${pageHead('radixkv dashboard', 'main.js')}
<body>
<a class="skip" href="#main">Skip to the numbers</a>
<header>
  <h1>radixkv <span id="model"></span></h1>
  <p id="status" role="status">Loading …</p>
${KEY_FORM}
</header>
<main id="main" tabindex="-1">

<section class="wide" aria-labelledby="hits-title">
  <h2 id="hits-title">Hit rate</h2>
  <fieldset id="window">
    <legend>Window</legend>
    <label><input type="radio" name="window" value="5m" checked> 5 minutes</label>
    <label><input type="radio" name="window" value="1h"> 1 hour</label>
    <label><input type="radio" name="window" value="24h"> 24 hours</label>
  </fieldset>
  <dl class="tiles" id="hit-tiles"></dl>
  <ul class="legend" aria-hidden="true">
    <li><i class="fill-device"></i> device</li><li><i class="fill-host"></i> host</li>
    <li><i class="fill-disk"></i> disk</li><li><i class="fill-remote"></i> remote</li><li><i class="fill-computed"></i> computed</li>
  </ul>
  <svg id="hit-chart" class="chart" role="img" aria-labelledby="hit-chart-title"><title id="hit-chart-title">Prompt tokens by where their KV came from</title></svg>
  <details id="hit-details"><summary>As a table</summary>
    <div class="scroll" tabindex="0" role="region" aria-label="Table of the hit rate"><table>
      <caption>Prompt tokens by where their KV came from</caption>
      <thead><tr><th scope="col">From</th><th scope="col">Prompt tokens</th><th scope="col">Device</th><th scope="col">Host</th><th scope="col">Disk</th><th scope="col">Remote</th><th scope="col">Computed</th></tr></thead>
      <tbody id="hit-rows"></tbody>
    </table></div>
  </details>
</section>

<section aria-labelledby="tiers-title">
  <h2 id="tiers-title">Tiers</h2>
  <table>
    <caption>KV against its budget</caption>
    <thead><tr><th scope="col">Tier</th><th scope="col">Used</th><th scope="col">Budget</th><th scope="col">Share</th></tr></thead>
    <tbody id="tier-rows"></tbody>
  </table>
  <table>
    <caption>Chunks evicted to make room since the start (half, nine of ten), and regret: tokens computed again for it</caption>
    <thead><tr><th scope="col">Tier</th><th scope="col">Evicted</th><th scope="col">After</th><th scope="col">Uses</th><th scope="col">Regret, window</th><th scope="col">Regret, all</th></tr></thead>
    <tbody id="life-rows"></tbody>
  </table>
</section>

<section aria-labelledby="load-title">
  <h2 id="load-title">Throughput and queue</h2>
  <dl class="tiles" id="rate-tiles"></dl>
  <dl class="tiles" id="queue-tiles"></dl>
  <table>
    <caption>Requests by how they ended</caption>
    <thead><tr><th scope="col">Outcome</th><th scope="col">In the window</th><th scope="col">Since the start</th></tr></thead>
    <tbody id="outcome-rows"></tbody>
  </table>
</section>

<section class="wide" aria-labelledby="ttft-title">
  <h2 id="ttft-title">Time to the first token, with and without hits</h2>
  <ul class="legend" aria-hidden="true">
    <li><i class="fill-none"></i> nothing reused</li><li><i class="fill-disk"></i> less than half</li><li><i class="fill-device"></i> half or more</li>
  </ul>
  <svg id="ttft-chart" class="chart" role="img" aria-labelledby="ttft-chart-title"><title id="ttft-chart-title">Median time to the first token by how much of the prompt was reused</title></svg>
  <table>
    <caption>In the window, by how much of the prompt was reused</caption>
    <thead><tr><th scope="col">Reused</th><th scope="col">Requests</th><th scope="col">Median</th><th scope="col">95 % within</th><th scope="col">Mean</th></tr></thead>
    <tbody id="ttft-rows"></tbody>
  </table>
</section>

<section class="wide" aria-labelledby="recent-title">
  <h2 id="recent-title">Recent requests</h2>
  <p class="note">Those that ended last, newest first. Opening one tells its phases, and why its prompt missed.</p>
  <ul class="legend" aria-hidden="true">
    <li><i class="fill-computed"></i> queue</li><li><i class="fill-disk"></i> load</li><li><i class="fill-host"></i> prefill</li><li><i class="fill-blend"></i> blend</li><li><i class="fill-device"></i> decode</li><li><i class="fill-none"></i> paused</li>
  </ul>
  <p id="recent-note" role="status"></p>
  <ol id="recent" class="requests"></ol>
</section>

<section class="wide" aria-labelledby="top-title">
  <h2 id="top-title">What spares most</h2>
  <fieldset id="top-by">
    <legend>By</legend>
    <label><input type="radio" name="top" value="prefix" checked> prefix</label>
    <label><input type="radio" name="top" value="document"> document</label>
  </fieldset>
  <div class="scroll" tabindex="0" role="region" aria-label="Table of what spares most"><table>
    <caption>By prompt tokens that were reused since the start</caption>
    <thead><tr><th scope="col" id="top-what">Prefix</th><th scope="col">Tokens saved</th><th scope="col">Hits</th><th scope="col">Last used</th></tr></thead>
    <tbody id="top-rows"></tbody>
  </table></div>
</section>

<section class="wide" aria-labelledby="tree-title">
  <h2 id="tree-title">Radix tree</h2>
  <p id="tree-help" class="note">Cached prompts of this API key; the width is the number of chunks. Arrow keys move, open and close; Enter widens a node, Escape shows the whole tree.</p>
  <p><button type="button" id="tree-refresh">Refresh</button> <button type="button" id="tree-whole">Whole tree</button> <span id="tree-note" role="status"></span></p>
  <ul class="legend" aria-hidden="true"><li><i class="fill-host"></i> in host memory</li><li><i class="fill-disk"></i> on disk only</li><li><i class="fill-none"></i> no whole chunk</li></ul>
  <svg id="tree" class="icicle" role="tree" aria-labelledby="tree-title" aria-describedby="tree-help"></svg>
  <p id="node-title"></p>
  <pre id="node-text"></pre>
</section>

<section class="wide" aria-labelledby="explain-title">
  <h2 id="explain-title">Why does a prompt miss?</h2>
  <form id="explain-form">
    <label for="messages">Messages, or the body of a request, as JSON</label>
    <textarea id="messages" rows="6" spellcheck="false" placeholder='[{"role": "user", "content": "What is a radix tree?"}]'></textarea>
    <button>Explain</button>
  </form>
  <div aria-live="polite" id="explanation">
    <p id="explain-result"></p>
    <div id="sides" class="sides" hidden>
      <div><h3 id="prompt-side-title">This prompt</h3><pre id="prompt-side" tabindex="0" role="region" aria-labelledby="prompt-side-title"></pre></div>
      <div><h3 id="cached-side-title">What is cached</h3><pre id="cached-side" tabindex="0" role="region" aria-labelledby="cached-side-title"></pre></div>
    </div>
  </div>
</section>

<section class="wide" aria-labelledby="log-title">
  <h2 id="log-title">Events</h2>
  <p><button type="button" id="log-pause" aria-pressed="false">Pause</button> <button type="button" id="log-clear">Clear</button> <span id="log-note" role="status"></span></p>
  <ol id="log" class="log" role="log" aria-live="off" aria-labelledby="log-title" tabindex="0"></ol>
</section>

</main>
</body>
</html>
`;
